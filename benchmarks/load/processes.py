"""A load spread over processes, so that showing it costs the clients nothing."""

import asyncio
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait

from benchmarks.load.clients import Load
from benchmarks.load.settings import LoadSettings
from benchmarks.load.tally import Tally
from unroll.errors import UnrollError

NEWS_SECONDS = 0.25
START_SECONDS = 60.0
# gRPC's threads do not survive a fork.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class News:
    """What a process tells: how its clients are doing, and whether that is the end."""

    tally: Tally
    is_last: bool


def run_load(settings: LoadSettings, watch: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Load a server and return what was measured; Ctrl-C ends the measuring early.

    Args:
        settings: of the load.
        watch: called with what was measured so far, a few times a second.

    Raises:
        UnrollError: a process of the generator failed.
    """
    pipes: list[Connection] = []
    children = []
    for numbers in shares(settings.clients, settings.processes):
        here, there = _SPAWN.Pipe()
        child = _SPAWN.Process(target=_be_child, args=(settings, numbers, there), daemon=True)
        child.start()
        there.close()
        pipes.append(here)
        children.append(child)
    try:
        return _watch(pipes, watch)
    finally:
        for child in children:
            child.terminate()
            child.join()


def shares(clients: int, processes: int) -> list[range]:
    """Spread the clients' numbers over processes, as evenly as they go."""
    bounds = [clients * process // processes for process in range(processes + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


def _watch(pipes: list[Connection], watch: Callable[[Tally], None]) -> Tally:
    """Let all begin at the same time, and collect what they tell until all have ended."""
    for pipe in pipes:
        if not pipe.poll(START_SECONDS):
            raise UnrollError(f"the load generator did not start within {START_SECONDS:g} s")
        _receive(pipe)
    _tell(pipes)
    latest: dict[Connection, Tally] = {}
    running = set(pipes)
    while running:
        try:
            ready = wait(running, NEWS_SECONDS)
            for pipe in running.intersection(ready):
                news = _receive(pipe)
                latest[pipe] = news.tally
                if news.is_last:
                    running.remove(pipe)
            watch(Tally.merged(list(latest.values())))
        except KeyboardInterrupt:
            _tell(list(running))
    return Tally.merged(list(latest.values()))


def _receive(pipe: Connection) -> News:
    try:
        news: News = pipe.recv()
    except EOFError:
        raise UnrollError(
            "a process of the load generator failed; its traceback is above"
        ) from None
    return news


def _tell(pipes: list[Connection]) -> None:
    """Let processes begin or, if they have begun, end."""
    for pipe in pipes:
        with suppress(BrokenPipeError):  # it ends anyway
            pipe.send(None)


def _be_child(settings: LoadSettings, numbers: range, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to end
    asyncio.run(_run_child(settings, numbers, pipe))


async def _run_child(settings: LoadSettings, numbers: range, pipe: Connection) -> None:
    load = Load(settings, numbers)
    pipe.send(News(tally=load.tally(), is_last=False))
    pipe.recv()
    running = asyncio.create_task(load.run())
    while not running.done():
        await asyncio.wait([running], timeout=NEWS_SECONDS)
        if pipe.poll():
            running.cancel()
            await asyncio.wait([running])
        elif not running.done():
            pipe.send(News(tally=load.tally(), is_last=False))
    if not running.cancelled():
        running.result()
    pipe.send(News(tally=load.tally(), is_last=True))
