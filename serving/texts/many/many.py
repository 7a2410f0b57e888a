"""Many texts of one model at once: each ends in its own time, well or badly."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial

from serving.engine.engine import Engine
from serving.engine.sequences.request import Chunk
from serving.engine.sequences.sequence import Sequence
from serving.texts.many.item import Item
from serving.texts.parse.each import Parse
from unroll.errors import ClosedError, DeadlineError, InputError, OverloadedError, UnrollError

AHEAD = 2  # texts under way for each slot: whenever one ends, the next is waiting
SORTED = 32  # texts for each slot that are put before they begin, so as to sort them
ANSWERS = 4096  # that may wait for an earlier one, if they go out in order
SYMBOLS = 2**20  # of them that may wait; of texts that are sorted, too
PATIENCE = 0.05  # seconds, for others to make room
GATHERED = 256  # answers that are handed over together
GATHERING = 0.02  # seconds, at most, from the first of them: each time costs more than an answer


class Many:
    """Runs many requests of an engine that delivers on this event loop.

    Texts that are only scored begin in order of their lengths, as far as they have been put: rows
    that end together waste no steps. What stops all texts, a deadline or an engine that closes, is
    raised once those that have ended are taken. Whoever makes it closes it.

    Args:
        engine: runs them.
        parse: translates a text; what it raises is the text's answer.
        in_order: answer in the order of the texts.
        gathered: answers that are handed over together, at most.
        hold: lets so many texts beside the first count as calls of the caller; None if nobody
            counts them.
    """

    def __init__(
        self,
        engine: Engine,
        parse: Parse,
        *,
        in_order: bool,
        gathered: int = GATHERED,
        hold: Callable[[int], AbstractContextManager[object]] | None = None,
    ) -> None:
        self._engine = engine
        self._parse = parse
        self._in_order = in_order
        self._gathered_at_most = gathered
        self._hold = hold
        self._held: list[AbstractContextManager[object]] = []  # whose is whose does not matter
        self._slots = sum(slots.capacity for slots in engine.slots)
        self._coming: list[Item] = []  # in the order in which they were put
        self._next: list[Item] = []  # in the order in which they begin, the last one first
        self._unbegun_symbols = 0
        self._running: dict[Item, Sequence] = {}
        self._answers: deque[Item] = deque()  # ended; in order, those that will end, too
        self._unanswered = 0
        self._waiting_symbols = 0
        self._has_news = asyncio.Event()  # `take` waits for it
        self._has_room = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None  # when it tries to begin more
        self._soon: asyncio.TimerHandle | None = None  # when answers are gathered
        self._error: Exception | None = None  # that ends all texts
        self._last: Exception | None = None  # behind the last text
        self._is_complete = False

    def close(self) -> None:
        """Cancel what runs; closing again does no harm."""
        self._error = self._error or ClosedError("the texts are no longer wanted")
        for timer in (self._later, self._soon):
            if timer is not None:
                timer.cancel()
        for sequence in self._running.values():
            self._engine.cancel(sequence)
        self._running.clear()
        self._release()

    @property
    def unanswered(self) -> int:
        """How many texts were put and not yet taken."""
        return self._unanswered

    @property
    def _under_way(self) -> int:
        """How many texts were put and have not ended."""
        return len(self._running) + len(self._coming) + len(self._next)

    @property
    def room(self) -> int:
        """How many texts may be put now."""
        if self._waiting_symbols >= SYMBOLS:
            return 0
        under_way = self._under_way
        waiting = self._unanswered - under_way
        ahead = self._slots * (SORTED if self._unbegun_symbols < SYMBOLS else AHEAD)
        taken = under_way + (0 if self._in_order else waiting)
        return max(min(ahead - taken, ANSWERS - waiting), 0)

    async def wait_for_room(self) -> int:
        """Return how many texts may be put, once there is room."""
        while not self.room:
            self._has_room.clear()
            await self._has_room.wait()
        return self.room

    def put(self, texts: Iterable[tuple[int, str]]) -> None:
        """Let texts with their keys begin as soon as they can, no more than there is room for."""
        for key, text in texts:
            item = Item(key=key)
            self._unanswered += 1
            if self._in_order:
                self._answers.append(item)
            try:
                item.parsed = self._parse(key, text)
            except UnrollError as error:
                self._answer(item, error)
            else:
                self._coming.append(item)
                self._unbegun_symbols += item.symbols
        self._begin()

    def complete(self, error: Exception | None = None) -> None:
        """Say that no more texts come; what stopped them is raised behind the last answer."""
        self._is_complete, self._last = True, error
        self._has_news.set()

    async def take(self) -> list[Item]:
        """Return the texts that have ended since; wait for some. None is the end.

        Raises:
            Exception: what stopped all texts.
        """
        while not (ended := await self._gathered()):
            if self._is_over:
                if error := self._error or self._last:
                    raise error
                return []
        for item in ended:
            if item.chunk is not None:
                self._waiting_symbols -= len(item.chunk.log_probs)
        self._unanswered -= len(ended)
        self._has_room.set()
        self._begin()
        if self._is_over:
            self._has_news.set()
        return ended

    @property
    def _is_over(self) -> bool:
        """Whether no other text will be answered."""
        if self._error is not None:
            return not self._running
        return self._is_complete and not self._unanswered

    async def _gathered(self) -> list[Item]:
        await self._has_news.wait()
        self._has_news.clear()
        ended: list[Item] = []
        while self._answers and self._answers[0].has_ended:
            if len(ended) == self._gathered_at_most:  # others use this event loop, too
                self._has_news.set()
                break
            ended.append(self._answers.popleft())
        return ended

    def _tell(self) -> None:
        """Tell of answers: at once if they are many or no others come, else soon."""
        waiting = self._unanswered - self._under_way
        if waiting >= min(self._gathered_at_most, self._unanswered) or self._is_over:
            self._has_news.set()
        elif self._soon is None:

            def tell() -> None:
                self._soon = None
                self._has_news.set()

            self._soon = asyncio.get_running_loop().call_later(GATHERING, tell)

    def _begin(self) -> None:
        """Submit texts, as long as they have room, their caller may and the queue is not full."""
        while self._error is None and len(self._running) < AHEAD * self._slots:
            if self._running and self._waiting_symbols >= SYMBOLS:
                return
            if not self._next:
                if not self._coming:
                    return
                self._next, self._coming = self._sorted(self._coming), []
            if not self._submit(self._next[-1]):
                self._begin_later()
                return
            self._unbegun_symbols -= self._next.pop().symbols

    @staticmethod
    def _sorted(items: list[Item]) -> list[Item]:
        """Return the last one first: texts to write as they came, texts to score by length."""
        items.reverse()
        if all(item.parsed and not item.parsed.request.max_new_symbols for item in items):
            items.sort(key=lambda item: item.symbols, reverse=True)
        return items

    def _begin_later(self) -> None:
        if self._later is None:

            def begin() -> None:
                self._later = None
                self._begin()

            self._later = asyncio.get_running_loop().call_later(PATIENCE, begin)

    def _submit(self, item: Item) -> bool:
        """Submit a text; return whether it could be, or has failed."""
        assert item.parsed is not None
        if self._running and self._hold is not None:
            try:
                held = self._hold(1)
            except (OverloadedError, InputError):  # more than it may have now, or ever
                return self._is_late(item)
            held.__enter__()
            self._held.append(held)
        try:
            sequence = self._engine.submit(item.parsed.request, partial(self._end, item))
        except UnrollError as error:
            self._release()
            if isinstance(error, OverloadedError):
                return self._is_late(item)
            self._fail(item, error)
        else:
            self._running[item] = sequence
        return True

    def _is_late(self, item: Item) -> bool:
        """Tell whether a text that waits for room fails now, as its deadline has passed."""
        assert item.parsed is not None
        deadline = item.parsed.request.deadline
        if deadline is None or time.monotonic() < deadline:
            return False
        self._fail(item, DeadlineError("the deadline passed before the text could begin"))
        return True

    def _end(self, item: Item, chunk: Chunk) -> None:
        if self._running.pop(item, None) is None:
            return
        self._release()
        if chunk.error is not None:
            self._fail(item, chunk.error)
        else:
            item.chunk = chunk
            self._waiting_symbols += len(chunk.log_probs)
            self._answer(item)
        self._begin()

    def _release(self) -> None:
        """Count no more texts than run; the first one is counted as the call."""
        while len(self._held) >= max(len(self._running), 1):
            self._held.pop().__exit__(None, None, None)

    def _fail(self, item: Item, error: UnrollError) -> None:
        """Note why a text failed, or that all fail by it."""
        if isinstance(error, (DeadlineError, ClosedError)):
            self._error = self._error or error
            self._has_news.set()
        else:
            self._answer(item, error)

    def _answer(self, item: Item, error: UnrollError | None = None) -> None:
        item.error = error
        if not self._in_order:
            self._answers.append(item)
        self._tell()
        self._has_room.set()
