"""Sessions in a store elsewhere, of which those used lately are in memory, too."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from serving.sessions.store import Busy, Change, Contents, Found, Gone, Lease, NewSession
from serving.sessions.store import SessionStore as Store


class _Copy(NamedTuple):
    used: float
    tag: bytes
    contents: Contents


_NONE = _Copy(0.0, b"", Contents(b"", ()))


class CachedStore:
    """Keeps all sessions in a store, and copies of some in memory.

    A copy is used only if the store says that its tag is still the session's. So another process
    may change any session at any time.

    Args:
        store: keeps all.
        limit: copies in memory.
        seconds: copies unused for so long are dropped.
    """

    def __init__(self, store: Store, limit: int, seconds: float) -> None:
        self.store = store
        self.spilled = 0
        self.loaded = 0
        self._limit = limit
        self._seconds = seconds
        self._copies: OrderedDict[str, _Copy] = OrderedDict()

    @property
    def has_failed(self) -> bool:
        """See SessionStore."""
        return self.store.has_failed

    @property
    def lease_seconds(self) -> float:
        """See SessionStore."""
        return self.store.lease_seconds

    def __len__(self) -> int:
        return len(self._copies)

    async def create(self, sessions: Sequence[NewSession], at_most: int = 0) -> int | None:
        """See SessionStore."""
        refused = await self.store.create(sessions, at_most)
        if refused is None:
            for each in sessions:
                self._keep(each.session_id, each.tag, each.contents)
        return refused

    async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
        """See SessionStore."""
        copy = self._copies.get(session_id, _NONE)
        found = await self.store.read(session_id, owner, copy.tag)
        return self._whole(session_id, found, copy) if isinstance(found, Found) else found

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        """See SessionStore."""
        copy = self._copies.get(session_id, _NONE)
        begun = await self.store.begin(session_id, owner, copy.tag)
        if not isinstance(begun, Lease):
            return begun
        return replace(begun, found=self._whole(session_id, begun.found, copy))

    async def renew(self, lease: Lease) -> bool:
        """See SessionStore."""
        return await self.store.renew(lease)

    async def release(self, lease: Lease) -> None:
        """See SessionStore."""
        await self.store.release(lease)

    async def commit(self, lease: Lease, change: Change) -> bool:
        """See SessionStore."""
        is_written = await self.store.commit(lease, change)
        if is_written:
            assert lease.found.contents is not None
            self._keep(lease.session_id, change.tag, lease.found.contents.changed(change))
        return is_written

    async def end(self, lease: Lease) -> bool:
        """See SessionStore."""
        self._copies.pop(lease.session_id, None)
        return await self.store.end(lease)

    async def expire(self) -> int:
        """See SessionStore; copies that were unused for too long are dropped, too."""
        self.spill(time.monotonic() - self._seconds)
        return await self.store.expire()

    def spill(self, before: float) -> None:
        """Drop the copies last used before a time of the monotonic clock."""
        while self._copies and next(iter(self._copies.values())).used < before:
            self._drop_oldest()

    def count(self) -> int | None:
        """Return how many sessions there are, as far as the store knows without looking."""
        return self.store.count()

    async def close(self) -> None:
        """See SessionStore."""
        await self.store.close()

    def _whole(self, session_id: str, found: Found, copy: _Copy) -> Found:
        contents = found.contents
        if contents is None:
            contents = copy.contents
        else:
            self.loaded += 1
        self._keep(session_id, found.tag, contents)
        return replace(found, contents=contents)

    def _keep(self, session_id: str, tag: bytes, contents: Contents) -> None:
        self._copies[session_id] = _Copy(time.monotonic(), tag, contents)
        self._copies.move_to_end(session_id)
        if len(self._copies) > self._limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._copies.popitem(last=False)
        self.spilled += 1
