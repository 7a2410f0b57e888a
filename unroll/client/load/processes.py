"""A load spread over processes of its own."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import pairwise
from threading import Barrier

from unroll.client.load.clients import Load
from unroll.client.load.settings import LoadSettings
from unroll.client.load.tally import Tally

START_SECONDS = 60.0
# gRPC's threads do not survive a fork.
SPAWN = multiprocessing.get_context("spawn")

_together: Barrier  # all processes have connected


def run_load(settings: LoadSettings) -> Tally:
    """Load a server and return what was measured.

    Raises:
        UnavailableError: there is no server.
        KeyboardInterrupt: Ctrl-C came before anything was measured; later, it ends the measuring.
    """
    together = SPAWN.Barrier(settings.processes)
    with ProcessPoolExecutor(settings.processes, SPAWN, _begin, (together,)) as pool:
        with _ctrl_c_later():
            parts = shares(settings.clients, settings.processes)
            measured = [pool.submit(_run_part, settings, part) for part in parts]
        try:
            return Tally.merged(part.result() for part in measured)
        except KeyboardInterrupt:
            return _cut_short(measured)


def _cut_short(measured: Sequence[Future[Tally]]) -> Tally:
    """End all processes' measuring, whether or not Ctrl-C reached them; return what it gave."""
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    try:
        tally = Tally.merged(part.result() for part in measured)
    except BrokenProcessPool:  # one had not begun
        raise KeyboardInterrupt from None
    if tally.seconds <= 0:
        raise KeyboardInterrupt
    return tally


def shares(clients: int, processes: int) -> list[range]:
    """Spread the clients' numbers over processes, as evenly as they go."""
    bounds = [clients * process // processes for process in range(processes + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Let Ctrl-C wait; processes that are started begin with that, too, and import in peace."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _begin(together: Barrier) -> None:
    global _together  # noqa: PLW0603 - the only way into a pool's process
    _together = together
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # until it measures, Ctrl-C ends it without a traceback
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _run_part(settings: LoadSettings, numbers: range) -> Tally:
    load = Load(settings, numbers)

    async def begin() -> None:
        await asyncio.to_thread(_together.wait, START_SECONDS)
        loop = asyncio.get_running_loop()

        def hear(*_: object) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one comes from the terminal, one from us
            with suppress(RuntimeError):  # the load has ended
                loop.call_soon_threadsafe(load.interrupt)

        signal.signal(signal.SIGINT, hear)

    return asyncio.run(load.run(begin))
