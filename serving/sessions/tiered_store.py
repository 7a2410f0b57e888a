"""Sessions on disk, and those used lately in memory, too."""

from collections.abc import Callable, Mapping

from serving.sessions.disk_store import DiskStore
from serving.sessions.store import Gone, MemoryStore, Record


class TieredStore:
    """Keeps all records on disk and the recently used ones in memory, too.

    Args:
        disk: keeps all.
        limit: records kept in memory.
    """

    def __init__(self, disk: DiskStore, limit: int) -> None:
        self._disk = disk
        self._memory = MemoryStore(limit)
        self.now = disk.now
        self.loaded = 0

    @property
    def has_failed(self) -> bool:
        """See SessionStore."""
        return self._disk.has_failed

    @property
    def spilled(self) -> int:
        """How many records have left the memory for the limit's sake."""
        return self._memory.evicted

    @property
    def kept(self) -> int:
        """How many records are on disk: all of them."""
        return self._disk.count()

    def __len__(self) -> int:
        return len(self._memory)

    async def get(self, session_id: str, owner: bytes) -> Record | Gone:
        """See SessionStore."""
        found = await self._memory.get(session_id, owner)
        if isinstance(found, Record):
            return found
        found = await self._disk.get(session_id, owner)
        if isinstance(found, Record):
            self.loaded += 1
        return found

    async def put(self, session_id: str, record: Record) -> None:
        """See SessionStore."""
        try:
            await self._disk.put(session_id, record)
        except BaseException:  # cancelled: the disk may have it or not, and the memory an older one
            await self._memory.remove(session_id, Gone.UNKNOWN)
            raise
        await self._memory.put(session_id, record)

    async def remove(self, session_id: str, gone: Gone) -> None:
        """See SessionStore."""
        await self._memory.remove(session_id, gone)
        await self._disk.remove(session_id, gone)

    async def count_of(self, owner: bytes) -> int:
        """See SessionStore."""
        return await self._disk.count_of(owner)

    async def touch(self, uses: Mapping[str, float]) -> None:
        """See SessionStore."""
        await self._memory.touch(uses)
        await self._disk.touch(uses)

    async def expire(self, before: float, keep: Callable[[str], bool] = lambda _: False) -> int:
        """See SessionStore."""
        await self._memory.expire(before, keep)
        return await self._disk.expire(before, keep)

    async def spill(self, before: float) -> int:
        """Forget, in memory alone, all records last used before a unix time; return how many."""
        return await self._memory.expire(before)

    def close(self) -> None:
        """See SessionStore."""
        self._disk.close()
