"""One of several server processes: what it tells its supervisor, and does when it is asked to.

Both ends of the pipe are trusted: the supervisor starts the process and gives it its end.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread
from typing import Any

from prometheus_client import generate_latest

from serving.process import describe, new_runner, serve
from serving.server import Server
from serving.sessions.disk.folder import remove_if_unused
from serving.settings import ServerSettings
from serving.telemetry.logs import configure_logging
from unroll.errors import UnrollError

TERMINAL = (signal.SIGINT, signal.SIGHUP)  # what a terminal sends to all that it has started


class Ask(Enum):
    """What a supervisor asks for."""

    METRICS = "metrics"
    RELOAD = "reload"


class Told(Enum):
    """What a process tells; METRICS and RELOAD answer an Ask."""

    READY = "ready"
    FAILED = "failed"
    METRICS = "metrics"
    RELOAD = "reload"


def run_child(settings: ServerSettings, pipe: Connection, scratch: Path | None) -> None:
    """Serve until SIGTERM, or until the supervisor is gone.

    Args:
        settings: of this process.
        pipe: to the supervisor.
        scratch: folder of sessions that the supervisor removes, or, if that is killed, the last of
            its processes.
    """
    os.setpgid(0, 0)  # a terminal's signals are the supervisor's business
    for number in TERMINAL:  # those that were held back are forgotten
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL)
    configure_logging(settings.log_format, settings.log_level)

    is_orphan = Event()

    def announce(server: Server) -> None:
        attending = Thread(
            target=_attend, args=(server, pipe, asyncio.get_running_loop(), is_orphan), daemon=True
        )
        tell(pipe, Told.READY, describe(server))
        attending.start()

    try:
        with new_runner() as runner:
            runner.run(serve(settings, announce, shares_port=True))
    except UnrollError as error:
        tell(pipe, Told.FAILED, str(error))
        sys.exit(error.exit_status)
    finally:
        if scratch is not None and is_orphan.is_set():
            remove_if_unused(scratch)


@contextmanager
def terminal_held_back() -> Iterator[None]:
    """Hold back a terminal's signals from processes that start in the block, until run_child."""
    resource_tracker.ensure_running()  # to start it would let them in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tell(pipe: Connection, *message: Any) -> None:
    """Send a message, if anybody is there to read it."""
    with suppress(OSError):
        pipe.send(message)


def _attend(
    server: Server, pipe: Connection, loop: asyncio.AbstractEventLoop, is_orphan: Event
) -> None:
    """Do what the supervisor asks for, on a thread, until the supervisor is gone."""
    while True:
        try:
            asked = pipe.recv()
        except (EOFError, OSError):
            is_orphan.set()
            os.kill(os.getpid(), signal.SIGTERM)  # ends in good order
            return
        if asked is Ask.METRICS:
            tell(pipe, Told.METRICS, generate_latest(server.metrics).decode())
        else:
            with suppress(Exception):  # which the log tells
                asyncio.run_coroutine_threadsafe(server.reload(), loop).result()
            tell(pipe, Told.RELOAD, None)
