"""Sessions in the memory of one process."""

import asyncio
import secrets
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile

from serving.sessions.clock import StoreClock
from serving.sessions.store import (
    TAG_BYTES,
    Busy,
    Change,
    Contents,
    Found,
    Gone,
    Lease,
    NewSession,
)

_FIXED = struct.Struct("<d16s16sHI")  # last use, owner, tag, number of marks, bytes of the head
_LENGTH = struct.Struct("<I")  # of each mark
FATES_AT_MOST = 100_000  # sessions that are gone, of which the store remembers why
PORTION = 1000  # sessions that expire at once; calls in between wait for no more than that


class MemoryStore:
    """Keeps sessions in memory, the least recently used first; evicts those past a limit.

    A session is kept as one bytes object that begins with the time of its last use: a million
    idle sessions of several objects would take hundreds of megabytes more.

    Args:
        limit: sessions it keeps.
        idle_seconds: sessions unused for longer expire; 0 keeps them for ever.
    """

    lease_seconds = float("inf")  # whoever holds a lease lives and dies with the store

    def __init__(self, limit: int, idle_seconds: float = 0.0) -> None:
        self.has_failed = False
        self.now: Callable[[], float] = StoreClock(time.time())
        self.evicted = 0
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._sessions: OrderedDict[str, bytes] = OrderedDict()
        self._leases: dict[str, bytes] = {}
        self._fates: OrderedDict[str, tuple[Gone, bytes]] = OrderedDict()
        self._owned: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    async def create(self, sessions: Sequence[NewSession], at_most: int = 0) -> int | None:
        """See SessionStore."""
        owner = sessions[0].owner
        new = [each for each in sessions if each.session_id not in self._sessions]
        if at_most and self._owned[owner] + len(new) > at_most:
            return self._owned[owner]
        for each in new:
            self._sessions[each.session_id] = _pack(self.now(), owner, each.tag, each.contents)
            self._fates.pop(each.session_id, None)
        self._owned[owner] += len(new)
        for session_id in self._surplus():
            self.evicted += 1
            self._remove(session_id, Gone.EVICTED)
        return None

    async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
        """See SessionStore."""
        packed = self._sessions.get(session_id)
        if packed is None:
            gone, its_owner = self._fates.get(session_id, (Gone.UNKNOWN, owner))
            return gone if its_owner == owner else Gone.UNKNOWN
        used, its_owner, tag, _, _ = _FIXED.unpack_from(packed)
        if its_owner != owner:
            return Gone.UNKNOWN
        idle = 0.0 if session_id in self._leases else self.now() - used
        if 0 < self._idle_seconds < idle:
            return Gone.EXPIRED  # `expire` removes it soon
        return Found(tag, idle, None if tag == known else _contents(packed))

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        """See SessionStore."""
        found = await self.read(session_id, owner, known)
        if isinstance(found, Gone):
            return found
        if session_id in self._leases:
            return Busy(0.0)
        lease = Lease(session_id, owner, secrets.token_bytes(TAG_BYTES), found)
        self._leases[session_id] = lease.key
        self._use(session_id)
        return lease

    async def renew(self, lease: Lease) -> bool:
        """See SessionStore."""
        if is_held := self._holds(lease):
            self._use(lease.session_id)
        return is_held

    async def release(self, lease: Lease) -> None:
        """See SessionStore."""
        if await self.renew(lease):
            del self._leases[lease.session_id]

    async def commit(self, lease: Lease, change: Change) -> bool:
        """See SessionStore."""
        session_id = lease.session_id
        packed = self._sessions.get(session_id)
        if packed is None:
            return False
        _, _, tag, _, _ = _FIXED.unpack_from(packed)
        if tag != change.tag:
            if not self._holds(lease) or tag != lease.found.tag:
                return False
            contents = _contents(packed).changed(change)
            self._sessions[session_id] = _pack(self.now(), lease.owner, change.tag, contents)
            self._sessions.move_to_end(session_id)
            del self._leases[session_id]
        return True

    async def end(self, lease: Lease) -> bool:
        """See SessionStore."""
        if is_held := self._holds(lease):
            self._remove(lease.session_id, Gone.ENDED)
        return is_held or self._fates.get(lease.session_id) == (Gone.ENDED, lease.owner)

    async def expire(self) -> int:
        """See SessionStore."""
        expired = 0
        while self._idle_seconds and (old := self._oldest()):
            for session_id in old:
                self._remove(session_id, Gone.EXPIRED)
            expired += len(old)
            await asyncio.sleep(0)
        return expired

    def count(self) -> int | None:
        """See SessionStore."""
        return len(self)

    async def close(self) -> None:
        """See SessionStore."""

    def _holds(self, lease: Lease) -> bool:
        return self._leases.get(lease.session_id) == lease.key

    def _use(self, session_id: str) -> None:
        rest = self._sessions[session_id][8:]
        self._sessions[session_id] = struct.pack("<d", self.now()) + rest
        self._sessions.move_to_end(session_id)

    def _surplus(self) -> list[str]:
        idle = (each for each in self._sessions if each not in self._leases)
        return list(islice(idle, max(len(self) - self._limit, 0)))

    def _oldest(self) -> list[str]:
        before = self.now() - self._idle_seconds
        in_order: Iterator[tuple[str, bytes]] = takewhile(
            lambda item: _FIXED.unpack_from(item[1])[0] < before, self._sessions.items()
        )
        return list(islice((each for each, _ in in_order if each not in self._leases), PORTION))

    def _remove(self, session_id: str, gone: Gone) -> None:
        _, owner, _, _, _ = _FIXED.unpack_from(self._sessions.pop(session_id))
        self._leases.pop(session_id, None)
        self._owned[owner] -= 1
        if not self._owned[owner]:
            del self._owned[owner]
        self._fates[session_id] = gone, owner
        if len(self._fates) > FATES_AT_MOST:
            self._fates.popitem(last=False)


def _pack(used: float, owner: bytes, tag: bytes, contents: Contents) -> bytes:
    marks = contents.marks
    fixed = _FIXED.pack(used, owner, tag, len(marks), len(contents.head))
    lengths = b"".join(_LENGTH.pack(len(mark)) for mark in marks)
    return b"".join((fixed, lengths, contents.head, *marks))


def _contents(packed: bytes) -> Contents:
    _, _, _, count, size = _FIXED.unpack_from(packed)
    at = _FIXED.size
    lengths = struct.unpack_from(f"<{count}I", packed, at)
    at += count * _LENGTH.size
    head, at = packed[at : at + size], at + size
    marks = []
    for length in lengths:
        marks.append(packed[at : at + length])
        at += length
    return Contents(head, tuple(marks))
