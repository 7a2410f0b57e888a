"""One call over HTTP: how its request is read and its answer written."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from grpc import StatusCode
from starlette.types import Receive, Scope, Send

from serving.access.call import Call
from serving.access.certificates import Names, names_of, proved_by
from serving.access.gate import MESSAGE_SECONDS, REQUEST_ID
from serving.http.connection import Connection
from unroll.errors import CancelledError, InputError

Headers = Iterable[tuple[str, str]]


@dataclass(kw_only=True, slots=True, eq=False)
class HttpCall(Call):
    """One call over HTTP.

    Attributes:
        scope: ASGI's description of the request.
        receive: ASGI's way to its body.
        send: ASGI's way to the client.
        encode: writes a message of a stream; the door sets it.
        stream_headers: of an answer that is a stream.
        has_begun: whether the answer has.
        is_complete: whether all of it has been sent.
        has_gone: whether the client has, before the answer's end.
        is_stuck: whether the client did not take the answer in time.
    """

    scope: Scope
    receive: Receive
    send: Send
    encode: Callable[[Any], bytes] = bytes
    stream_headers: Headers = ()
    has_begun: bool = False
    is_complete: bool = False
    has_gone: bool = False
    is_stuck: bool = False

    @property
    def connection(self) -> Connection:
        """On which it came."""
        found: Connection = self.scope["state"]["connection"]
        return found

    @property
    def system(self) -> str:
        """How it came, as traces name it."""
        return "http"

    def names(self) -> Names | None:
        """Return the names in the client's certificate; None without one."""
        certificate = self.connection.certificate
        return None if certificate is None else names_of(proved_by(certificate))

    def header(self, name: str) -> str:
        """Return a header's value, of several the first; empty without one."""
        return next((str(value) for key, value in self.metadata if key == name), "")

    async def read(self, most: int) -> bytes:
        """Read the request's body.

        Args:
            most: its size at most, in bytes.

        Raises:
            InputError: it is larger, or takes too long to arrive.
            CancelledError: the client has gone.
        """
        assert self.admitted is not None, "a caller is judged before its message is read"
        told = self.header("content-length")
        if told.isdigit() and int(told) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(MESSAGE_SECONDS), self.admitted.reading:
                return await self._read(most)
        except TimeoutError as error:
            raise InputError(
                "request", f"did not arrive within {MESSAGE_SECONDS:g} s; send it at once"
            ) from error

    async def _read(self, most: int) -> bytes:
        parts, size = [], 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.has_gone = True
                raise CancelledError("the client disconnected")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise _too_large(most)
            if not message.get("more_body", False):
                return b"".join(parts)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel the block when the client goes; its request must have been read."""
        running = asyncio.current_task()
        assert running is not None

        async def watch(task: asyncio.Task[Any]) -> None:
            while (await self.receive())["type"] != "http.disconnect":
                pass
            if not self.is_complete:  # ASGI tells of this end as of the other
                self.has_gone = True
                task.cancel()

        watching = asyncio.create_task(watch(running))
        try:
            yield
        finally:
            watching.cancel()

    async def answer(
        self, status: int, body: bytes, media: str = "application/json", headers: Headers = ()
    ) -> None:
        """Send a whole answer; returns once the reader has taken nearly all of it."""
        told = [("content-type", media), ("content-length", str(len(body))), *headers]
        await self._begin(status, told)
        self.is_complete = True
        await self.send({"type": "http.response.body", "body": body})
        await self.connection.drain()

    async def write(self, message: Any) -> None:
        """Send one message of a stream; returns once the reader has room."""
        await self.write_raw(self.encode(message))

    async def write_raw(self, data: bytes) -> None:
        """Send a piece of a stream as it is; returns once the reader has room."""
        if not self.has_begun:
            await self._begin(200, self.stream_headers)
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End a stream."""
        self.is_complete = True
        await self.send({"type": "http.response.body", "body": b""})

    def note_end(self, *, is_answered: bool) -> None:
        """Note the code that the call ended with; a refusal has noted its own."""
        if self.has_gone:
            self.code = StatusCode.CANCELLED.name
        elif is_answered and self.code == StatusCode.UNKNOWN.name:
            self.code = StatusCode.OK.name

    async def _begin(self, status: int, headers: Headers) -> None:
        self.has_begun = True
        told = [("date", formatdate(usegmt=True)), (REQUEST_ID, self.request_id)]
        encoded = [(key.encode(), value.encode()) for key, value in (*told, *headers)]
        await self.send({"type": "http.response.start", "status": status, "headers": encoded})


def _too_large(most: int) -> InputError:
    return InputError(
        "request",
        f"is larger than {most} bytes, which this server takes at most; send less, or raise "
        "--max-message-bytes",
    )
