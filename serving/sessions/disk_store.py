"""Where sessions outlive the server: an SQLite database, and a memory of those used lately."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from serving.sessions.store import OWNER, Gone, MemoryStore, Record
from unroll.errors import SettingsError, StoreError

_OWNER = f"substr(data, {OWNER.start + 1}, {OWNER.stop - OWNER.start})"  # SQL counts from 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, used REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS sessions_used ON sessions (used);
CREATE INDEX IF NOT EXISTS sessions_owner ON sessions ({_OWNER});
CREATE TABLE IF NOT EXISTS gone (id TEXT PRIMARY KEY, fate TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS gone_at ON gone (at);
"""
log = logging.getLogger(__name__)

GONE_SECONDS = 7 * 86400.0
Write = tuple[str, tuple[object, ...]]


class DiskStore:
    """Keeps records in SQLite. A write has survived `kill -9` once it is awaited.

    Writes that wait at the same time share one transaction. (Write-ahead logging with
    synchronous = NORMAL: a power cut may lose the last moments, a killed process nothing.)

    Args:
        folder: where the database lies; is made if it is not there.

    Raises:
        SettingsError: the folder or the database cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "sessions.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(f"state-dir: {path} cannot be used: {error}") from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")  # the one that uses _db
        self._lock = threading.Lock()  # guards the two below
        self._writes: list[Write] = []
        self._flush: asyncio.Future[None] | None = None
        self._is_closed = False

    async def get(self, session_id: str) -> Record | Gone:
        """See SessionStore."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._select, session_id
        )

    async def put(self, session_id: str, record: Record) -> None:
        """See SessionStore."""
        await self._write(
            (
                "INSERT INTO sessions VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET used = excluded.used, data = excluded.data",
                (session_id, record.used, record.data),
            )
        )

    async def remove(self, session_id: str, gone: Gone) -> None:
        """See SessionStore."""
        await self._write(
            (
                "INSERT OR REPLACE INTO gone SELECT id, ?, ? FROM sessions WHERE id = ?",
                (gone.value, time.time(), session_id),
            ),
            ("DELETE FROM sessions WHERE id = ?", (session_id,)),
        )

    async def count_of(self, owner: bytes) -> int:
        """See SessionStore."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._count_of, owner)

    async def expire(self, before: float) -> int:
        """See SessionStore."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._expire, before)

    def close(self) -> None:
        """See SessionStore. Closing again does no harm."""
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._commit).result()
            self._thread.shutdown()
            self._db.close()

    def count(self) -> int:
        """Return the number of records."""
        count: int = self._thread.submit(
            lambda: self._db.execute("SELECT count(*) FROM sessions").fetchone()[0]
        ).result()
        return count

    async def _write(self, *writes: Write) -> None:
        with self._lock:
            self._writes.extend(writes)
            if self._flush is None:
                loop = asyncio.get_running_loop()
                self._flush = loop.run_in_executor(self._thread, self._commit)
            flush = self._flush
        try:
            await asyncio.shield(flush)
        except sqlite3.Error as error:
            log.error("sessions cannot be written: %s", error)
            raise StoreError(
                "the session could not be written down and stays as it was; try again later"
            ) from error

    def _commit(self) -> None:
        with self._lock:  # from here on, new writes belong to the next transaction
            self._flush = None
            writes, self._writes = self._writes, []
        with self._transaction():
            for statement, values in writes:
                self._db.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _select(self, session_id: str) -> Record | Gone:
        row = self._db.execute(
            "SELECT used, data FROM sessions WHERE id = ?", (session_id,)
        ).fetchone()
        if row is not None:
            return Record(*row)
        row = self._db.execute("SELECT fate FROM gone WHERE id = ?", (session_id,)).fetchone()
        return Gone.UNKNOWN if row is None else Gone(row[0])

    def _count_of(self, owner: bytes) -> int:
        asked = f"SELECT count(*) FROM sessions WHERE {_OWNER} = ?"
        count: int = self._db.execute(asked, (owner,)).fetchone()[0]
        return count

    def _expire(self, before: float) -> int:
        now = time.time()
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO gone SELECT id, ?, ? FROM sessions WHERE used < ?",
                (Gone.EXPIRED.value, now, before),
            )
            expired = self._db.execute("DELETE FROM sessions WHERE used < ?", (before,)).rowcount
            self._db.execute("DELETE FROM gone WHERE at < ?", (now - GONE_SECONDS,))
        return expired


class TieredStore:
    """Keeps all records on disk and the recently used ones in memory, too.

    Args:
        disk: keeps all.
        limit: records kept in memory.
    """

    def __init__(self, disk: DiskStore, limit: int) -> None:
        self._disk = disk
        self._memory = MemoryStore(limit)
        self.loaded = 0

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

    async def get(self, session_id: str) -> Record | Gone:
        """See SessionStore."""
        found = await self._memory.get(session_id)
        if isinstance(found, Record):
            return found
        found = await self._disk.get(session_id)
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

    async def expire(self, before: float) -> int:
        """See SessionStore."""
        await self._memory.expire(before)
        return await self._disk.expire(before)

    async def spill(self, before: float) -> int:
        """Forget, in memory alone, all records last used before a unix time; return how many."""
        return await self._memory.expire(before)

    def close(self) -> None:
        """See SessionStore."""
        self._disk.close()
