"""Many commands in flight on one connection: each caller gets its own answer or error."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from serving.sessions.redis.pipeline import Pipeline, _Line
from serving.sessions.redis.servers import servers
from serving.sessions.redis.settings import read_redis
from tests.serving.key_servers import KeyServer, running

MANY = 200
SECONDS = 10.0


@asynccontextmanager
async def pipeline(server: KeyServer) -> AsyncIterator[Pipeline]:
    settings = read_redis(server.url, password=None, ca=None, prefix="p", timeout_seconds=SECONDS)
    reached = servers(settings, "key", SECONDS)
    made = Pipeline(reached.connect, SECONDS)
    try:
        yield made
    finally:
        await made.close()
        await reached.close()


def test_answers_come_to_those_who_asked_over_one_connection(redis: KeyServer) -> None:
    async def scenario() -> None:
        async with pipeline(redis) as made:
            asked = [str(number) * 1000 for number in range(MANY)]
            answers = await asyncio.gather(*(made.call("ECHO", each) for each in asked))
            assert answers == [each.encode() for each in asked]
            clients = await made.call("CLIENT", "LIST")
            assert clients.count(b"name=unroll") == 1

    asyncio.run(scenario())


def test_error_is_told_to_its_caller_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running("redis", tmp_path) as server:
            async with pipeline(server) as made:
                await made.call("SET", "a", "1")
                await made.call("CONFIG", "SET", "maxmemory", "1")
                answers = await asyncio.gather(
                    made.call("GET", "a"),
                    made.call("SET", "b", "2"),
                    made.call("LLEN", "a"),
                    made.call("GET", "a"),
                    return_exceptions=True,
                )
        assert answers[0] == answers[3] == b"1"
        assert isinstance(answers[1], OutOfMemoryError)
        assert isinstance(answers[2], ResponseError)

    asyncio.run(scenario())


def test_caller_that_has_gone_leaves_others_their_answers(redis: KeyServer) -> None:
    async def scenario() -> None:
        async with pipeline(redis) as made:
            await made.call("DEL", "gone")
            with redis.client as client:
                client.client_pause(60_000, all=False)  # those that write
                callers = [asyncio.create_task(made.call("INCR", "gone")) for _ in range(9)]
                await asyncio.sleep(0)
                for gone in callers[::2]:
                    gone.cancel()
                client.client_unpause()
            assert await asyncio.gather(*callers[1::2]) == [2, 4, 6, 8]

    asyncio.run(scenario())


def test_all_in_flight_hear_that_the_connection_fell(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running("redis", tmp_path) as server:
            async with pipeline(server) as made:
                await made.call("PING")
                server.process.send_signal(signal.SIGSTOP)
                callers = [asyncio.create_task(made.call("ECHO", n)) for n in range(MANY)]
                await asyncio.sleep(0)
                server.stop()
                async with asyncio.timeout(60):
                    told = await asyncio.gather(*callers, return_exceptions=True)
                assert all(isinstance(each, RedisError) for each in told)
                server.start()
                assert await made.call("ECHO", "again") == b"again"

    asyncio.run(scenario())


def test_connection_that_fell_is_no_news_for_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with running("redis", tmp_path) as server:
            async with pipeline(server) as made:
                await made.call("PING")
                server.stop()  # the loop hears of it only after the calls
                callers = [made.call("ECHO", number) for number in range(MANY)]
                told = await asyncio.gather(*callers, return_exceptions=True)
                assert all(isinstance(each, RedisError) for each in told)

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_connection_on_which_nothing_comes_back_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        with running("redis", tmp_path) as server:
            async with pipeline(server) as made:
                first = await made.call("CLIENT", "ID")
                assert made._line is not None
                made._seconds = made._line._seconds = 0.2
                made._line._look()  # with nothing in flight, it sets no timer
                with server.client as client:
                    client.client_pause(60_000, all=False)
                    with pytest.raises((RedisError, OSError)):
                        await made.call("INCR", "a")
                    client.client_unpause()
                made._seconds = SECONDS
                assert await made.call("CLIENT", "ID") != first

    asyncio.run(scenario())


def test_late_answer_is_not_taken_for_another(redis: KeyServer) -> None:
    """One answer is late while others come: its connection is kept, and stays in step."""

    async def scenario() -> None:
        async with pipeline(redis) as made:
            await made.call("PING")
            line = made._line
            assert line is not None
            late = line.send(("ECHO", "late"), line._loop.time() - 1.0)
            line._look()
            with pytest.raises(TimeoutError):
                await late
            assert await made.call("ECHO", "next") == b"next"
            assert made._line is line

    asyncio.run(scenario())


def test_command_that_cannot_be_sent_leaves_others_their_answers(redis: KeyServer) -> None:
    async def scenario() -> None:
        async with pipeline(redis) as made:
            await made.call("PING")
            with pytest.raises(UnicodeEncodeError):
                await made.call("ECHO", "\ud800")
            answers = await asyncio.gather(*(made.call("ECHO", each) for each in "ab"))
            assert answers == [b"a", b"b"]

    asyncio.run(scenario())


class Unplugged:
    """A connection of redis-py, and its transport, that lead nowhere."""

    def __init__(self) -> None:
        self.transport = self._writer = self._parser = self
        self._is_closing = False

    def parse_error(self, text: str) -> ResponseError:
        return ResponseError(text)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return self._is_closing

    def abort(self) -> None:
        self._is_closing = True

    async def disconnect(self, *, nowait: bool) -> None:
        pass


def test_answer_that_never_ends_costs_its_connection() -> None:
    async def scenario() -> None:
        seconds = 0.05
        line = _Line(Unplugged(), seconds)  # type: ignore[arg-type]
        answer = line.send(("GET", "a"), asyncio.get_running_loop().time() + seconds)
        line.data_received(b"$400000000\r\n")
        async with asyncio.timeout(SECONDS):
            while not line.is_lost:
                line.data_received(b"x")
                await asyncio.sleep(seconds / 10)
        with pytest.raises((RedisError, TimeoutError)):
            await answer

    asyncio.run(scenario())


def test_answer_that_nobody_asked_for_costs_its_connection() -> None:
    async def scenario() -> None:
        line = _Line(Unplugged(), SECONDS)  # type: ignore[arg-type]
        line.data_received(b"+OK\r\n")
        assert line.is_lost

    asyncio.run(scenario())
