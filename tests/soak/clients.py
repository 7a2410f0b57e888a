"""Processes of clients, which are killed at any time and replaced."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from queue import Empty, Queue

from tests.soak import rude, sessions, texts  # noqa: F401 (they fill OPERATIONS)
from tests.soak.account import OPERATIONS, Asker, Attempt
from tests.soak.keeper import STEP_SECONDS, Lot
from tests.soak.plan import Step, deal
from unroll.client.aio import AsyncClient
from unroll.client.load.processes import SPAWN

RESUMPTIONS = "unroll.client.remote.resume"  # the logger that tells of each break


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The clients of one process."""

    targets: tuple[str, str]  # addresses of the two servers
    symbols: str  # of the model
    name: tuple[int, ...]  # the soak's seed, the process's number and how many were in its place
    clients: int


class CrowdKeeper(threading.Thread):
    """Keeps one process of clients.

    Args:
        crowd: its first clients.
        lot: their lives.
        may_kill: whether they may be killed now, by the number of kills so far.
        told: takes what they tell; one that is full holds them up.
    """

    def __init__(
        self, crowd: Crowd, lot: Lot, may_kill: Callable[[int], bool], told: "Queue[Attempt]"
    ) -> None:
        super().__init__(daemon=True, name=f"keeper of clients {crowd.name}")
        self.kills = 0
        self.problems: list[str] = []
        self._crowd, self._lot, self._may_kill, self._told = crowd, lot, may_kill, told
        self._is_dismissed, self._is_given_up = threading.Event(), threading.Event()

    def dismiss(self) -> None:
        """Ask them to end; they are not killed any more."""
        self._is_dismissed.set()

    def give_up(self) -> None:
        """End them and this thread at once; what they still tell is lost."""
        self._is_given_up.set()
        while self.is_alive():
            with suppress(Empty):  # a full queue may hold the thread up
                self._told.get(timeout=STEP_SECONDS)

    def run(self) -> None:
        """Keep one process after the other until they are dismissed."""
        while self._keep():
            self.kills += 1
            *same, generation = self._crowd.name
            self._crowd = replace(self._crowd, name=(*same, generation + 1))

    def _keep(self) -> bool:
        """Hear a process until it has ended; return whether it was killed because it was due."""
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=be_crowd, args=(self._crowd, there), daemon=True)
        process.start()
        there.close()
        due, is_asked = time.monotonic() + self._lot.life(), False
        with here:
            while not self._is_given_up.is_set():
                if self._is_dismissed.is_set():
                    if not is_asked:
                        is_asked = True
                        with suppress(BrokenPipeError):  # they have ended, which recv will tell
                            here.send(None)
                elif time.monotonic() >= due and self._may_kill(self.kills):
                    break
                try:
                    if here.poll(STEP_SECONDS):
                        self._told.put(here.recv())
                except (EOFError, OSError):
                    process.join()
                    if process.exitcode:
                        told = f"clients ended by themselves with {process.exitcode}"
                        self.problems.append(f"{told}; their traceback is above")
                    return False
            process.kill()
            process.join()
        return not self._is_given_up.is_set()


class Breaks(logging.Handler):
    """Counts streams that went on elsewhere with a part of their text received."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line of the log."""
        received = record.args[0] if isinstance(record.args, tuple) else 0
        self.count += bool(received)

    def take(self) -> int:
        """Return the count and begin anew."""
        count, self.count = self.count, 0
        return count


def be_crowd(crowd: Crowd, pipe: Connection) -> None:
    """Be clients until the pipe says otherwise: what a process of them runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the soak tells when to end
    asyncio.run(_run(crowd, pipe))


async def _run(crowd: Crowd, pipe: Connection) -> None:
    breaks, resumptions = Breaks(), logging.getLogger(RESUMPTIONS)
    resumptions.addHandler(breaks)
    resumptions.setLevel(logging.INFO)
    resumptions.propagate = False
    turn = asyncio.Lock()

    async def tell(attempt: Attempt) -> None:
        async with turn:  # a soak that is behind holds its clients up, each by itself
            await asyncio.to_thread(pipe.send, attempt)

    async with AsyncExitStack() as stack:
        orders = crowd.targets, crowd.targets[::-1]
        clients = [await stack.enter_async_context(AsyncClient(order)) for order in orders]
        asker = Asker(
            targets=crowd.targets, clients=tuple(clients), tell=tell, take_breaks=breaks.take
        )
        tasks = [asyncio.create_task(_be_client(asker, crowd, n)) for n in range(crowd.clients)]
        ending = asyncio.create_task(asyncio.to_thread(pipe.recv))
        await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()  # in the middle of whatever it does
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()  # raises what should not have happened
    ending.result()


async def _be_client(asker: Asker, crowd: Crowd, number: int) -> None:
    name = (*crowd.name, number)
    for index, kind in enumerate(deal(*name)):
        await OPERATIONS[kind](asker, Step(crowd.symbols, *name, index))
