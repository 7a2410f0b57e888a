"""Many texts of one model at once: each ends in its own time, well or badly."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

from serving.engine.engine import Engine
from serving.engine.request import Chunk
from serving.engine.sequence import Sequence
from serving.texts.parse import Parsed
from unroll.errors import ClosedError, DeadlineError, InputError, OverloadedError, UnrollError

AHEAD = 2  # texts under way for each slot: whenever one ends, the next is waiting
ANSWERS = 4096  # that may wait for an earlier one, if they go out in order
SYMBOLS = 2**20  # of them that may wait
PATIENCE = 0.05  # seconds, for others to make room


@dataclass(kw_only=True, slots=True, eq=False)
class Item:
    """One of many texts.

    Attributes:
        key: the caller's.
        parsed: what it asks for; None if that cannot be done.
        chunk: all of it, once it has ended.
        error: why it failed, once it has.
    """

    key: int
    parsed: Parsed | None = None
    chunk: Chunk | None = None
    error: UnrollError | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is answered."""
        return self.chunk is not None or self.error is not None

    @property
    def outcome(self) -> tuple[Parsed, Chunk]:
        """What it asked for and got; it must have ended well."""
        assert self.parsed is not None
        assert self.chunk is not None
        return self.parsed, self.chunk


class Many:
    """Runs many requests of an engine that delivers on this event loop.

    What stops all texts, a deadline or an engine that closes, is raised once those that have ended
    are taken. Whoever makes it closes it.

    Args:
        engine: runs them.
        in_order: answer in the order of the texts.
        hold: lets so many texts beside the first count as calls of the caller.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        in_order: bool,
        hold: Callable[[int], AbstractContextManager[object]] = lambda more: nullcontext(),
    ) -> None:
        self._engine = engine
        self._in_order = in_order
        self._hold = hold
        self._held: list[ExitStack] = []  # one a running text; which is whose makes no difference
        self._window = AHEAD * sum(slots.capacity for slots in engine.slots)
        self._running: dict[Item, Sequence] = {}
        self._unanswered: dict[Item, None] = {}
        self._waiting_symbols = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._error: Exception | None = None
        self._is_complete = False

    def close(self) -> None:
        """Cancel what runs; closing again does no harm."""
        for sequence in self._running.values():
            self._engine.cancel(sequence)
        self._running.clear()
        for held in self._held:
            held.close()
        self._held.clear()

    @property
    def unanswered(self) -> int:
        """How many texts were put and not yet taken."""
        return len(self._unanswered)

    @property
    def room(self) -> int:
        """How many texts may be put now."""
        if self._waiting_symbols >= SYMBOLS:
            return 0
        waiting = len(self._unanswered) - len(self._running)
        taken = len(self._running) + (0 if self._in_order else waiting)
        return max(min(self._window - taken, ANSWERS - waiting), 0)

    async def put(self, key: int, parse: Callable[[], Parsed]) -> None:
        """Begin a text as soon as there is room for it; what is wrong with it is its answer.

        Raises:
            ClosedError: the engine begins nothing any more.
            DeadlineError: it is too late.
        """
        while not self.room:
            await self._wait()
        item = Item(key=key)
        self._unanswered[item] = None
        try:
            item.parsed = parse()
            while not self._begins(item, item.parsed):
                await self._wait(PATIENCE)
        except (ClosedError, DeadlineError):
            del self._unanswered[item]
            raise
        except UnrollError as error:
            item.error = error
            self._wake()

    def complete(self, error: Exception | None = None) -> None:
        """Say that no more texts come; what stopped them is raised behind the last answer."""
        self._is_complete = True
        self._error = self._error or error
        self._wake()

    async def take(self) -> list[Item]:
        """Return the texts that have ended since; wait for one. None is the end.

        Raises:
            Exception: what stopped all texts.
        """
        while not (ended := list(self._answers())):
            if self._error is not None and not self._running:
                raise self._error
            if self._is_complete and not self._unanswered:
                return []
            await self._wait()
        for item in ended:
            del self._unanswered[item]
            if item.chunk is not None:
                self._waiting_symbols -= len(item.chunk.log_probs)
        self._wake()
        return ended

    def _answers(self) -> Iterator[Item]:
        for item in self._unanswered:
            if item.has_ended:
                yield item
            elif self._in_order:
                return

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _wait(self, seconds: float | None = None) -> None:
        """Wait for a change, or for so many seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait([waiter], timeout=seconds)

    def _begins(self, item: Item, parsed: Parsed) -> bool:
        """Submit a text, unless its caller has too many or the queue is full."""
        if self._error is not None:
            raise self._error
        with ExitStack() as stack:
            try:
                if self._running:
                    stack.enter_context(self._hold(1))
            except (OverloadedError, InputError):  # more than it may have now, or ever
                return False
            try:
                sequence = self._engine.submit(parsed.request, partial(self._end, item))
            except OverloadedError:
                return False
            self._running[item] = sequence
            self._held.append(stack.pop_all())
        return True

    def _end(self, item: Item, chunk: Chunk) -> None:
        if self._running.pop(item, None) is None:
            return
        self._held.pop().close()
        if isinstance(chunk.error, (DeadlineError, ClosedError)):
            self._error = self._error or chunk.error
            del self._unanswered[item]
        elif chunk.error is not None:
            item.error = chunk.error
        else:
            item.chunk = chunk
            self._waiting_symbols += len(chunk.log_probs)
        self._wake()
