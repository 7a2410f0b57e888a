"""On the way from Redis an answer is lost or doubled: nobody gets his neighbour's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import hiredis
import pytest

from serving.sessions.store import Found
from tests.serving.key_servers import KeyServer
from tests.serving.sessions.redis.stores import ANNA, new, settings, store_at
from unroll.errors import StoreError

NAMES = [f"{number:03}" for number in range(40)]


class Link:
    """Between a store and a Redis.

    Attributes:
        port: where it listens.
        faults: how many times, instead of once, the next answer of a script is passed on; one for
            each connection from now on.
    """

    def __init__(self, server: KeyServer) -> None:
        self.port = 0
        self.faults: list[int] = []
        self._server = server
        self._passing: list[asyncio.Task[None]] = []

    async def accept(self, asked: asyncio.StreamReader, told: asyncio.StreamWriter) -> None:
        """Pass on what comes over a new connection, until its end."""
        task = asyncio.current_task()
        assert task is not None
        self._passing.append(task)
        answered, asking = await asyncio.open_connection("127.0.0.1", self._server.port)
        answers = asyncio.create_task(self._pass_answers(answered, told))
        with suppress(ConnectionError):
            while data := await asked.read(2**16):
                asking.write(data)
        asking.write_eof()
        with suppress(ConnectionError):
            await answers
        for writer in (asking, told):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def close(self) -> None:
        """Wait for the connections' end."""
        await asyncio.gather(*self._passing)

    async def _pass_answers(
        self, answered: asyncio.StreamReader, told: asyncio.StreamWriter
    ) -> None:
        reader, answer, is_faulty = hiredis.Reader(), b"", False
        while byte := await answered.read(1):
            reader.feed(byte)
            answer += byte
            if reader.gets() is not False:
                if answer.startswith(b"*") and self.faults and not is_faulty:
                    answer, is_faulty = answer * self.faults.pop(), True
                told.write(answer)
                answer = b""


@asynccontextmanager
async def link(server: KeyServer) -> AsyncIterator[Link]:
    made = Link(server)
    listening = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield made
        await made.close()


async def read_all(server: KeyServer, faults: list[int]) -> list[object]:
    """Read all sessions at once over a link with faults; each has its name as its mark."""
    async with (
        link(server) as between,
        store_at(settings(f"redis://127.0.0.1:{between.port}", prefix="shifted")) as store,
    ):
        await store.create([new(name, name.encode()) for name in NAMES])
        line = store._pipeline._line
        assert line is not None
        between.faults = faults
        told = await asyncio.gather(
            *(store.read(name, ANNA) for name in NAMES), return_exceptions=True
        )
        assert line.is_lost
        return list(told)


def marks(told: list[object]) -> list[object]:
    return [
        each.contents.marks[0].decode() if isinstance(each, Found) and each.contents else each
        for each in told
    ]


faults = pytest.mark.parametrize("times", [0, 2], ids=["lost", "doubled"])


@faults
def test_answers_that_are_shifted_once_are_asked_for_again(redis: KeyServer, times: int) -> None:
    assert marks(asyncio.run(read_all(redis, [times]))) == NAMES


@faults
def test_answers_that_are_shifted_again_are_a_typed_error(redis: KeyServer, times: int) -> None:
    told = marks(asyncio.run(read_all(redis, [times, times])))
    failed = [isinstance(each, StoreError) for each in told]
    assert any(failed)
    assert all(each == name or no for each, name, no in zip(told, NAMES, failed, strict=True))
