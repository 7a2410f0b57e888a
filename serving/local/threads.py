"""The same for threads: the event loop runs on a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from serving.local.aio import AsyncLocal
from serving.local.bulk import LocalBulk
from unroll.errors import ClosedError
from unroll.options import (
    GenerateOptions,
    Origin,
    ScoreOptions,
)
from unroll.results import (
    Answer,
    Generation,
    Piece,
    Score,
    SessionInfo,
)

T = TypeVar("T")
P = ParamSpec("P")


def _waiting(
    method: Callable[Concatenate[AsyncLocal, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Local", P], T]:
    """Make a method for threads of one for the event loop: it waits for what that gives."""

    @wraps(method)
    def wait_for(self: "Local", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method(self.aio, *args, **kwargs))

    return wait_for


class Local:
    """Runs one bundle for any number of threads; the Backend of a model in this process.

    Args:
        make: makes the AsyncLocal, on its event loop.

    Attributes:
        aio: runs on that event loop.

    Raises:
        UnrollError: as `make`.
    """

    def __init__(self, make: Callable[[], AsyncLocal]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local", daemon=True)
        # Reentrant: a stream may be collected, and so be left, wherever its thread just is.
        self._lock = threading.RLock()  # guards the three below
        self._is_closed = False
        self._asked: set[Future[Any]] = set()  # that somebody waits for
        self._leaving: set[Future[None]] = set()  # streams that were left

        async def start() -> AsyncLocal:
            return make()

        self._thread.start()
        try:
            self.aio = self.run(start())
        except BaseException:
            self._end_loop()
            raise

    generate = _waiting(AsyncLocal.generate)
    score = _waiting(AsyncLocal.score)
    inspect = _waiting(AsyncLocal.inspect)
    find_units = _waiting(AsyncLocal.find_units)
    start_session = _waiting(AsyncLocal.start_session)
    get_session = _waiting(AsyncLocal.get_session)
    rewind_session = _waiting(AsyncLocal.rewind_session)
    end_session = _waiting(AsyncLocal.end_session)
    get_model = _waiting(AsyncLocal.get_model)
    list_models = _waiting(AsyncLocal.list_models)

    def stream(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generator[Piece]:
        """See Backend."""
        pieces = self.aio.stream(prompt, options, origin, timeout)

        async def following() -> Piece | None:
            return await anext(pieces, None)

        async def leave() -> None:
            await pieces.aclose()

        try:
            while (piece := self.run(following())) is not None:
                yield piece
        finally:
            self.leave(leave())

    def generate_many(
        self, options: GenerateOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> "ThreadBulk[Generation]":
        """See Backend."""
        opening = self.aio.generate_many(options, origin, timeout, in_order=in_order)
        return ThreadBulk(self, self.run(opening))

    def score_many(
        self, options: ScoreOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> "ThreadBulk[Score]":
        """See Backend."""
        opening = self.aio.score_many(options, origin, timeout, in_order=in_order)
        return ThreadBulk(self, self.run(opening))

    def fork_session(
        self, session_id: str, seeds: Iterable[int], timeout: float | None
    ) -> list[SessionInfo]:
        """See Backend."""
        return self.run(self.aio.fork_session(session_id, list(seeds), timeout))

    def close(self) -> None:
        """End what runs, with ClosedError; closing again does no harm."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            asyncio.run_coroutine_threadsafe(self.aio.close(), self._loop).result()
            wait(self._asked.copy())
            asyncio.run_coroutine_threadsafe(self._end_tasks(), self._loop).result()
            self._end_loop()

    async def _end_tasks(self) -> None:
        """End the streams that nobody reads just now."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for what a coroutine gives on the event loop; streams that were left end first."""
        with self._lock:
            leaving = [*self._leaving]
        wait(leaving)
        future = self._submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupted wait; nothing to what has ended
            raise

    def leave(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine run; whoever asks for something next waits for it first."""
        with suppress(ClosedError):
            future = self._submit(coroutine)
            with self._lock:
                self._leaving.add(future)
            future.add_done_callback(self._left)

    def _left(self, future: "Future[None]") -> None:
        with self._lock:
            self._leaving.discard(future)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        with self._lock:
            if not self._is_closed:
                future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
                self._asked.add(future)
                future.add_done_callback(self._asked.discard)
                return future
        coroutine.close()
        raise ClosedError("this model is closed; load its folder again")


class ThreadBulk(Generic[T]):
    """Many texts under way; the Bulk of a model in this process.

    Args:
        local: on whose event loop they run.
        bulk: runs them there.
    """

    def __init__(self, local: Local, bulk: LocalBulk[T]) -> None:
        self._local = local
        self._bulk = bulk
        self._sent: list[tuple[int, str]] = []  # that go with the next `receive`, in one hop

    @property
    def room(self) -> int:
        """See Bulk."""
        return self._bulk.room - len(self._sent)

    @property
    def unanswered(self) -> int:
        """See Bulk."""
        return self._bulk.unanswered + len(self._sent)

    def send(self, texts: list[tuple[int, str]]) -> None:
        """See Bulk."""
        self._sent += texts

    def receive(self) -> list[Answer[T]]:
        """See Bulk."""
        texts, self._sent = self._sent, []
        return self._local.run(self._bulk.exchange(texts))

    def close(self) -> None:
        """See Bulk."""
        self._local.leave(self._bulk.close())
