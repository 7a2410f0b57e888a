"""The leases by which one request at a time uses a session."""

import asyncio
import math
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from serving.sessions import refusals
from serving.sessions.store import Busy, Change, Gone, Lease, SessionStore
from unroll.errors import StoreError

RENEWALS = 3  # of a lease, in the time that it lasts
T = TypeVar("T")


@dataclass(slots=True)
class Use:
    """A request's use of a session.

    Attributes:
        lease: that keeps others out.
        is_over: whether the lease is given back, or is about to be.
        renewing: the timer by which the lease is renewed.
    """

    lease: Lease
    is_over: bool = False
    renewing: asyncio.TimerHandle | None = None

    def stop_renewing(self) -> None:
        """Let the lease end."""
        if self.renewing is not None:
            self.renewing.cancel()
        self.renewing = None


class Leases:
    """Takes leases, renews them and gives them back, also for calls that are cancelled.

    Args:
        store: whose they are.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._finishing: set[asyncio.Task[Any]] = set()

    async def take(self, session_id: str, owner: bytes) -> Use:
        """Keep other requests from a session until `give_back`.

        Raises:
            SessionBusyError: another request uses it.
            SessionError: it is gone.
            StoreError: the store cannot be used.
        """
        beginning = self._spawn(self._store.begin(session_id, owner))
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self._spawn(self._undo(beginning))
            raise
        if isinstance(begun, Gone):
            raise refusals.gone(session_id, begun)
        if isinstance(begun, Busy):
            raise refusals.busy(session_id)
        use = Use(begun)
        self._renew_later(use)
        return use

    async def _undo(self, beginning: "asyncio.Task[Lease | Busy | Gone]") -> None:
        with suppress(StoreError):  # nobody waits for it
            begun = await beginning
            if isinstance(begun, Lease):
                await self._let_go(begun)

    def _renew_later(self, use: Use) -> None:
        """Renew a lease in a while, and again and again until its use is over."""
        seconds = self._store.lease_seconds / RENEWALS
        if not math.isinf(seconds):
            loop = asyncio.get_running_loop()
            use.renewing = loop.call_later(seconds, lambda: self._spawn(self._renew(use)))

    async def _renew(self, use: Use) -> None:
        with suppress(StoreError):  # the store may be back before the lease ends
            await self._store.renew(use.lease)
        if use.renewing is not None:
            self._renew_later(use)

    async def give_back(self, use: Use) -> None:
        """End a use, whether or not the session was changed."""
        use.stop_renewing()
        if not use.is_over:
            await self.finish(self._store.release(use.lease))

    async def commit(self, use: Use, change: Change) -> bool:
        """Write a change, with which the use is over; return whether the lease still held."""
        use.is_over = True
        return await self.finish(self._write(use.lease, change))

    async def _write(self, lease: Lease, change: Change) -> bool:
        try:
            return await self._store.commit(lease, change)
        except StoreError:
            self._spawn(self._let_go(lease))  # a store that is away must not be waited for twice
            raise

    async def _let_go(self, lease: Lease) -> None:
        with suppress(StoreError):  # a lease ends by itself
            await self._store.release(lease)

    async def settle(self) -> None:
        """Wait for what calls that were cancelled have still to write."""
        await asyncio.gather(*self._finishing, return_exceptions=True)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what must not stay half done when the call is cancelled."""
        return await asyncio.shield(self._spawn(work))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task
