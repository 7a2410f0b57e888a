# Made from aio_bulk.py by scripts/unasync.py: edit that file, then `make fix`.

"""Many texts in one call, for threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import SimpleQueue as Queue
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from unroll.client.remote.packing import BYTES_AT_ONCE, Packed, pack
from unroll.errors import InputError, ServerError
from unroll.results import Answer
from unroll.sent import seconds_as_sent
from unroll.wire import LONGEST, from_rpc_error

R = TypeVar("R")
AHEAD = 2048  # texts that are sent before the first of them is answered
UNTOLD = 2**62  # bytes; such a server ends the call with a message that is too long for it


class CallBulk(Generic[R]):
    """Many texts under way in one call; see Bulk.

    Args:
        method: to call.
        first: request, with what all texts have in common.
        field: what a text is called in an error.
        write: builds the request that holds texts.
        read: reads a response from a server.
        timeout: of the call, in seconds; None for none.
        target: what to call the server in a message.
        in_order: whether the server answers in the order of the texts.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        first: Message,
        field: str,
        write: Callable[[list[tuple[int, str]]], Message],
        read: Callable[[Any, str], Iterable[Answer[R]]],
        timeout: float | None,
        target: str,
        *,
        in_order: bool,
    ) -> None:
        self._field = field
        self._write = write
        self._read = read
        self._target = target
        self._in_order = in_order
        self._longest: int | None = None  # bytes of a message, once a long one is to be sent
        self._sent: deque[int] = deque()  # indices of texts without an answer; if in order, those
        self._refused: deque[Answer[R]] = deque()  # of texts that cannot be sent
        self._requests: Queue[Message | None] = Queue()
        self._requests.put_nowait(first)
        self._call = method(self._queued(), timeout=seconds_as_sent(timeout))
        self._responses = iter(self._call)

    @property
    def room(self) -> int:
        """See Bulk."""
        return AHEAD - self.unanswered

    @property
    def unanswered(self) -> int:
        """See Bulk."""
        return len(self._sent) + len(self._refused)

    def send(self, texts: list[tuple[int, str]]) -> None:
        """See Bulk."""
        for packed in pack(self._field, texts):
            if packed.error is not None:
                self._refuse(packed, packed.error)
                continue
            if packed.size > BYTES_AT_ONCE and packed.size > (most := self._most_bytes()):
                told = f"takes {packed.size} bytes, this server takes {most} at most; send less"
                self._refuse(packed, InputError(self._field, told))
                continue
            self._sent.extend(index for index, _ in packed.texts)
            self._requests.put_nowait(self._write(packed.texts))

    def receive(self) -> list[Answer[R]]:
        """See Bulk."""
        if answers := list(self._refusals()):
            return answers
        response = self._following()
        if response is None:
            raise ServerError(
                f"{self._target}: the call ended with {self.unanswered} texts unanswered; try again"
            )
        for answer in self._read(response, self._target):
            self._sent.popleft()
            answers += [answer, *self._refusals()]
        return answers

    def close(self) -> None:
        """See Bulk."""
        self._requests.put_nowait(None)
        try:
            if not self.unanswered:
                self._following()
        finally:
            self._call.cancel()  # nothing to an ended call

    def _refuse(self, packed: Packed, error: InputError) -> None:
        self._refused.extend(Answer(index=index, error=error) for index, _ in packed.texts)

    def _refusals(self) -> Iterator[Answer[R]]:
        """Take the refusals whose turn it is."""
        while self._refused and not (
            self._in_order and self._sent and self._sent[0] < self._refused[0].index
        ):
            yield self._refused.popleft()

    def _most_bytes(self) -> int:
        """Return how many bytes of a message the server takes; a server of before tells nothing."""
        if self._longest is None:
            try:
                told = dict(self._call.initial_metadata())
            except grpc.RpcError as error:
                raise from_rpc_error(error, self._target) from error
            self._longest = int(told.get(LONGEST, UNTOLD))
        return self._longest

    def _queued(self) -> Generator[Message]:
        while (request := self._requests.get()) is not None:
            yield request

    def _following(self) -> Any:
        """Return the next response; None if there is none."""
        try:
            return next(self._responses, None)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error
