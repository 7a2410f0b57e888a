"""A process of clients: it may be killed at any time."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.soak.asking import Asker
from benchmarks.soak.claim import Outcome
from benchmarks.soak.plan import Kind, Step, deal
from benchmarks.soak.sessions import live
from benchmarks.soak.texts import OPERATIONS
from unroll.client.aio import AsyncClient

RESUMPTIONS = "unroll.client.resume"  # the logger that tells of each break


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The clients of one process.

    Attributes:
        targets: addresses of the two servers.
        symbols: of the model.
        name: the soak's seed, the number of the process and how many were in its place before.
        clients: how many.
    """

    targets: tuple[str, str]
    symbols: str
    name: tuple[int, ...]
    clients: int


class Breaks(logging.Handler):
    """Counts streams that went on elsewhere with a part of their text received."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line of the log."""
        received = record.args[0] if isinstance(record.args, tuple) else 0
        self._count += bool(received)

    def take(self) -> int:
        """Return the count and begin anew."""
        count, self._count = self._count, 0
        return count


def be_crowd(crowd: Crowd, pipe: Connection) -> None:
    """Be clients until the pipe says otherwise: what a process of them runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the soak tells when to end
    asyncio.run(_run(crowd, pipe))


async def _run(crowd: Crowd, pipe: Connection) -> None:
    breaks = Breaks()
    resumptions = logging.getLogger(RESUMPTIONS)
    resumptions.addHandler(breaks)
    resumptions.setLevel(logging.INFO)
    resumptions.propagate = False
    turn = asyncio.Lock()

    async def tell(outcome: Outcome) -> None:
        async with turn:  # a soak that is behind holds its clients up, each by itself
            await asyncio.to_thread(pipe.send, outcome)

    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(order))
            for order in (crowd.targets, crowd.targets[::-1])
        ]
        asker = Asker(
            targets=crowd.targets, clients=tuple(clients), tell=tell, take_breaks=breaks.take
        )
        tasks = [
            asyncio.create_task(_be_client(asker, crowd, number)) for number in range(crowd.clients)
        ]
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
        step = Step(crowd.symbols, *name, index)
        operation = live if kind is Kind.START else OPERATIONS[kind]
        await operation(asker, step)
