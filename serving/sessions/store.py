"""Where idle sessions live: in memory, and on disk where there is a folder for them.

A store maps a session's id to its record, a few bytes around its recurrent state, and remembers for
a while why a record is gone.
"""

import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

_USED = struct.Struct("<d")
OWNER = slice(34, 50)  # of a record's data: the tag of its caller; see Session.pack
GONE_AT_MOST = 100_000  # ids of sessions that are gone, of which a store in memory remembers why


class Gone(Enum):
    """Why a session is not there."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    EXPIRED = "expired"
    EVICTED = "evicted"


@dataclass(frozen=True, slots=True)
class Record:
    """A session at rest.

    Attributes:
        used: unix time of its last use, in seconds.
        data: all of it.
    """

    used: float
    data: bytes


class SessionStore(Protocol):
    """What any store does; one shared by several servers would do the same."""

    async def get(self, session_id: str) -> Record | Gone:
        """Return a record, or why there is none."""
        ...

    async def put(self, session_id: str, record: Record) -> None:
        """Write a record, new or changed; when it returns, the record is as safe as it will be."""
        ...

    async def remove(self, session_id: str, gone: Gone) -> None:
        """Remove a record and remember why; nothing happens if there is none."""
        ...

    async def count_of(self, owner: bytes) -> int:
        """Return how many records a caller has, by its tag."""
        ...

    async def expire(self, before: float) -> int:
        """Remove all records last used before a unix time; return how many."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


class MemoryStore:
    """Keeps records in memory, the least recently used first; evicts them past a limit.

    A record is kept as one bytes object that begins with the time of its last use: for a million
    idle sessions, two objects less each are 70 MB.

    Args:
        limit: records it keeps.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._gone: OrderedDict[str, Gone] = OrderedDict()
        self._owned: Counter[bytes] = Counter()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._records)

    async def get(self, session_id: str) -> Record | Gone:
        """See SessionStore."""
        packed = self._records.get(session_id)
        if packed is None:
            return self._gone.get(session_id, Gone.UNKNOWN)
        return Record(_used(packed), packed[_USED.size :])

    async def put(self, session_id: str, record: Record) -> None:
        """See SessionStore."""
        if session_id in self._records:
            self._disown(session_id)
        self._owned[record.data[OWNER]] += 1
        self._records[session_id] = _USED.pack(record.used) + record.data
        self._records.move_to_end(session_id)
        self._gone.pop(session_id, None)
        if len(self._records) > self._limit:
            self.evicted += 1
            self._drop(next(iter(self._records)), Gone.EVICTED)

    async def remove(self, session_id: str, gone: Gone) -> None:
        """See SessionStore."""
        if session_id in self._records:
            self._drop(session_id, gone)

    async def count_of(self, owner: bytes) -> int:
        """See SessionStore."""
        return self._owned[owner]

    async def expire(self, before: float) -> int:
        """See SessionStore."""
        expired = 0
        while self._records and _used(next(iter(self._records.values()))) < before:
            self._drop(next(iter(self._records)), Gone.EXPIRED)
            expired += 1
        return expired

    def close(self) -> None:
        """See SessionStore."""

    def _drop(self, session_id: str, gone: Gone) -> None:
        self._disown(session_id)
        del self._records[session_id]
        self._gone[session_id] = gone
        if len(self._gone) > GONE_AT_MOST:
            self._gone.popitem(last=False)

    def _disown(self, session_id: str) -> None:
        owner = self._records[session_id][_USED.size :][OWNER]
        self._owned[owner] -= 1
        if not self._owned[owner]:
            del self._owned[owner]


def _used(packed: bytes) -> float:
    used: float = _USED.unpack_from(packed)[0]
    return used
