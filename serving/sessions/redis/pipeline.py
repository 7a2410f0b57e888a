"""One connection to a Redis, on which many commands are in flight at once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse

Word = bytes | str | int | float  # of a command


class Pipeline:
    """Writes commands as they come, and hands out the answers, which come in the same order.

    redis-py makes the connection, for it knows TLS, passwords, sentinels and clusters. Its own way
    of doing a command takes ten times the processor time.

    Args:
        connect: returns a new connection, ready for commands.
        seconds: within which a command must be answered, connecting included.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[AbstractConnection]], seconds: float
    ) -> None:
        self._connect = connect
        self._seconds = seconds
        self._line: _Line | None = None
        self._connecting: asyncio.Task[_Line] | None = None

    async def call(self, *command: Word) -> Any:
        """Send a command and return its answer.

        Raises:
            ResponseError: it is refused; commands beside it are not concerned.
            TimeoutError: no answer came in time. A connection on which none came is given up.
            RedisError, OSError: there is no connection, or it is lost, and the command may have
                been carried out or not.
        """
        deadline = asyncio.get_running_loop().time() + self._seconds
        line = self._line
        if line is None or line.is_lost:
            async with asyncio.timeout_at(deadline):
                line = await self._new_line()
        return await line.send(command, deadline)

    async def _new_line(self) -> "_Line":
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._open())
            self._connecting.add_done_callback(_hear)
        return await asyncio.shield(self._connecting)

    async def _open(self) -> "_Line":
        try:
            async with asyncio.timeout(self._seconds):
                self._line = _Line(await self._connect(), self._seconds)
        finally:
            self._connecting = None
        return self._line

    def drop(self) -> None:
        """Use another connection from now on; commands in flight hear that theirs is lost."""
        if self._line is not None:
            self._line.lose(LostError("the connection was given up"))

    async def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        self.drop()
        if self._line is not None:
            await self._line.closing


class _Line(asyncio.Protocol):
    """A connection, until it is lost.

    It takes the socket over from redis-py, which has no face for that; hence its private names.
    """

    def __init__(self, connection: AbstractConnection, seconds: float) -> None:
        self._is_given_up = False
        taken: Any = connection
        self.closing: asyncio.Task[None]
        self._connection = taken
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=self._connection._parser.parse_error
        )
        self._in_flight: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._heard = 0.0  # when the last answer came, or when the first of those awaited was asked
        self._watch: asyncio.TimerHandle | None = None
        self._transport: Any = self._connection._writer.transport
        self._transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be sent any more; asyncio may tell a moment later."""
        return self._is_given_up or self._transport.is_closing()

    def send(self, command: tuple[Any, ...], deadline: float) -> "asyncio.Future[Any]":
        """Send a command, whose answer comes later.

        Raises:
            ConnectionError: of redis; the connection is lost.
        """
        if self.is_lost:  # asyncio would log each command
            raise LostError("the connection is lost")
        packed = hiredis.pack_command(command)  # what cannot be sent has no answer to wait for
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._in_flight:
            self._heard = self._loop.time()
        self._in_flight.append((answer, deadline))
        self._transport.write(packed)
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._look)
        return answer

    def data_received(self, data: bytes) -> None:
        """Hand out answers."""
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._hand_out(answer)
        except InvalidResponse as error:
            self.lose(error)

    def _hand_out(self, answer: Any) -> None:
        if not self._in_flight:
            raise InvalidResponse("the server answers what nobody asked")
        self._heard = self._loop.time()  # whole answers count: a part of one may go on for ever
        waiting, _ = self._in_flight.popleft()
        if waiting.done():  # its caller has gone
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def eof_received(self) -> None:
        """Tell all who wait: nothing comes any more."""
        self.lose(LostError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait."""
        self.lose(exc or LostError("the server closed the connection"))

    def _look(self) -> None:
        """See whether an answer is overdue: one timer for all, as each costs processor time."""
        self._watch = None
        now = self._loop.time()
        if self._in_flight and now - self._heard >= self._seconds:
            self.lose(TimeoutError("no answer came in time"))
            return
        for waiting, deadline in self._in_flight:
            if deadline <= now and not waiting.done():
                waiting.set_exception(TimeoutError("its answer did not come in time"))
        later = [deadline for waiting, deadline in self._in_flight if not waiting.done()]
        if later:
            self._watch = self._loop.call_at(min(later), self._look)

    def lose(self, error: Exception) -> None:
        """Tell all whose answers have not come, and close the connection."""
        if self._is_given_up:
            return
        self._is_given_up = True
        if self._watch is not None:
            self._watch.cancel()
        for waiting, _ in self._in_flight:
            if not waiting.done():
                waiting.set_exception(LostError(str(error)))
        self._transport.abort()
        self.closing = self._loop.create_task(self._connection.disconnect(nowait=True))


def _hear(connecting: "asyncio.Task[_Line]") -> None:
    """Look at how it went, in case nobody waits for it any more: asyncio would log it."""
    if not connecting.cancelled():
        connecting.exception()
