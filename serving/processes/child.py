"""One of several server processes: what it tells its supervisor, and does when it is asked to.

Both ends of the pipe are trusted: the supervisor starts the process and gives it its end.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from prometheus_client import generate_latest

from serving.process import describe, new_runner, serve
from serving.server import Server
from serving.settings import ServerSettings
from serving.telemetry.logs import configure_logging
from unroll.errors import UnrollError


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


def run_child(settings: ServerSettings, pipe: Connection) -> None:
    """Serve until SIGTERM, or until the supervisor is gone.

    Args:
        settings: of this process.
        pipe: to the supervisor.
    """
    os.setpgid(0, 0)  # a terminal's Ctrl-C is the supervisor's business
    configure_logging(settings.log_format, settings.log_level)

    def announce(server: Server) -> None:
        asyncio.get_running_loop().add_reader(pipe.fileno(), _attend, server, pipe)
        tell(pipe, Told.READY, describe(server))

    try:
        with new_runner() as runner:
            runner.run(serve(settings, announce, shares_port=True))
    except UnrollError as error:
        tell(pipe, Told.FAILED, str(error))
        sys.exit(error.exit_status)


def tell(pipe: Connection, *message: Any) -> None:
    """Send a message, if anybody is there to read it."""
    with suppress(OSError):
        pipe.send(message)


def _attend(server: Server, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    try:
        asked = pipe.recv()
    except (EOFError, OSError):  # the supervisor is gone: so end, in good order
        loop.remove_reader(pipe.fileno())
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if asked is Ask.METRICS:
        answer = loop.run_in_executor(None, generate_latest, server.metrics)
        answer.add_done_callback(lambda done: tell(pipe, Told.METRICS, done.result().decode()))
    else:
        reloading = loop.create_task(server.reload())
        reloading.add_done_callback(lambda done: tell(pipe, Told.RELOAD, _has_failed(done)))


def _has_failed(done: "asyncio.Task[None]") -> bool:
    return done.cancelled() or done.exception() is not None
