"""Many texts in one call, for asyncio."""

from asyncio import Queue
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from unroll.errors import ServerError
from unroll.results import Answer
from unroll.wire import from_rpc_error

R = TypeVar("R")
AHEAD = 2048  # texts that are sent before the first of them is answered


class AsyncCallBulk(Generic[R]):
    """Many texts under way in one call; see AsyncBulk.

    Args:
        method: to call.
        first: request, with what all texts have in common.
        write: builds the requests that hold texts.
        read: reads a response from a server.
        timeout: of the call, in seconds; None for none.
        target: what to call the server in a message.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        first: Message,
        write: Callable[[list[tuple[int, str]]], Iterable[Message]],
        read: Callable[[Any, str], Iterable[Answer[R]]],
        timeout: float | None,
        target: str,
    ) -> None:
        self._write = write
        self._read = read
        self._target = target
        self._requests: Queue[Message | None] = Queue()
        self._requests.put_nowait(first)
        self._call = method(self._queued(), timeout=timeout)
        self._responses = aiter(self._call)
        self._unanswered = 0

    @property
    def room(self) -> int:
        """See AsyncBulk."""
        return AHEAD - self._unanswered

    @property
    def unanswered(self) -> int:
        """See AsyncBulk."""
        return self._unanswered

    async def send(self, texts: list[tuple[int, str]]) -> None:
        """See AsyncBulk."""
        for request in self._write(texts):
            self._requests.put_nowait(request)
        self._unanswered += len(texts)

    async def receive(self) -> list[Answer[R]]:
        """See AsyncBulk."""
        response = await self._following()
        if response is None:
            raise ServerError(
                f"{self._target}: the call ended with {self._unanswered} texts unanswered; "
                "try again"
            )
        answers = list(self._read(response, self._target))
        self._unanswered -= len(answers)
        return answers

    async def close(self) -> None:
        """See AsyncBulk."""
        self._requests.put_nowait(None)
        try:
            if not self._unanswered:
                await self._following()
        finally:
            self._call.cancel()  # nothing to an ended call

    async def _queued(self) -> AsyncGenerator[Message]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _following(self) -> Any:
        """Return the next response; None if there is none."""
        try:
            return await anext(self._responses, None)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error
