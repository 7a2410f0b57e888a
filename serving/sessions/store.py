"""Where idle sessions live: in memory, and on disk where there is a folder for them.

A store maps a session's id to its record, a few bytes around its recurrent state, and remembers for
a while why a record is gone.
"""

import asyncio
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice, takewhile
from operator import itemgetter
from typing import Protocol

from serving.sessions.clock import StoreClock

_USED = struct.Struct("<d")
OWNER = slice(34, 50)  # of a record's data: the tag of its caller; see Session.pack
GONE_AT_MOST = 100_000  # ids of sessions that are gone, of which a store in memory remembers why
PORTION = 1000  # records that expire at once; calls in between wait for no more than that


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
    """The contract of every store; one shared by several servers would have the same.

    Attributes:
        now: the time by which its records grow old, in seconds.
        has_failed: whether the last write failed.
    """

    @property
    def has_failed(self) -> bool:
        """See the class."""
        ...

    @property
    def now(self) -> Callable[[], float]:
        """See the class."""
        ...

    async def get(self, session_id: str, owner: bytes) -> Record | Gone:
        """Return a record of this owner, or why there is none.

        What became of another's is nobody else's business: it is unknown.
        """
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

    async def touch(self, uses: Mapping[str, float]) -> None:
        """Note when records were used, without changing them; ids without one are ignored."""
        ...

    async def expire(self, before: float, keep: Callable[[str], bool] = lambda _: False) -> int:
        """Remove all records last used before a time, but those to keep; return how many."""
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
        self.has_failed = False
        self._limit = limit
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._gone: OrderedDict[str, tuple[Gone, bytes]] = OrderedDict()
        self.now: Callable[[], float] = StoreClock(time.time())
        self._owned: Counter[bytes] = Counter()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._records)

    async def get(self, session_id: str, owner: bytes) -> Record | Gone:
        """See SessionStore."""
        packed = self._records.get(session_id)
        if packed is None:
            gone, its_owner = self._gone.get(session_id, (Gone.UNKNOWN, owner))
            return gone if its_owner == owner else Gone.UNKNOWN
        record = Record(_used(packed), packed[_USED.size :])
        return record if record.data[OWNER] == owner else Gone.UNKNOWN

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

    async def touch(self, uses: Mapping[str, float]) -> None:
        """See SessionStore."""
        for session_id, used in sorted(uses.items(), key=itemgetter(1)):
            if session_id in self._records:
                data = self._records[session_id][_USED.size :]
                self._records[session_id] = _USED.pack(used) + data
                self._records.move_to_end(session_id)

    async def expire(self, before: float, keep: Callable[[str], bool] = lambda _: False) -> int:
        """See SessionStore."""
        expired = 0
        while old := self._oldest(before, keep):
            for session_id in old:
                self._drop(session_id, Gone.EXPIRED)
            expired += len(old)
            await asyncio.sleep(0)
        return expired

    def _oldest(self, before: float, keep: Callable[[str], bool]) -> list[str]:
        in_order = takewhile(lambda item: _used(item[1]) < before, self._records.items())
        return list(islice((each for each, _ in in_order if not keep(each)), PORTION))

    def close(self) -> None:
        """See SessionStore."""

    def _drop(self, session_id: str, gone: Gone) -> None:
        owner = self._disown(session_id)
        del self._records[session_id]
        self._gone[session_id] = gone, owner
        if len(self._gone) > GONE_AT_MOST:
            self._gone.popitem(last=False)

    def _disown(self, session_id: str) -> bytes:
        owner = self._records[session_id][_USED.size :][OWNER]
        self._owned[owner] -= 1
        if not self._owned[owner]:
            del self._owned[owner]
        return owner


def _used(packed: bytes) -> float:
    used: float = _USED.unpack_from(packed)[0]
    return used
