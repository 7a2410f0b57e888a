"""Where sessions outlive the server: an SQLite database."""

import asyncio
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from serving.sessions.clock import StoreClock
from serving.sessions.store import OWNER, PORTION, Gone, Record
from unroll.errors import SettingsError, StoreError

_OWNER = f"substr(data, {OWNER.start + 1}, {OWNER.stop - OWNER.start})"  # SQL counts from 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, used REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS sessions_used ON sessions (used);
CREATE TABLE IF NOT EXISTS clock (only INTEGER PRIMARY KEY CHECK (only = 0), now REAL NOT NULL);
CREATE INDEX IF NOT EXISTS sessions_owner ON sessions ({_OWNER});
CREATE TABLE IF NOT EXISTS gone
    (id TEXT PRIMARY KEY, fate TEXT NOT NULL, at REAL NOT NULL, owner BLOB);
CREATE INDEX IF NOT EXISTS gone_at ON gone (at);
"""
log = logging.getLogger(__name__)

GONE_SECONDS = 7 * 86400.0
BUSY_SECONDS = 2.0  # another process, a backup say, may hold the database for so long
WAL_BYTES_AT_MOST = 64 * 2**20  # what is kept of the write-ahead log after a checkpoint
Write = tuple[str, tuple[object, ...]]
T = TypeVar("T")


class DiskStore:
    """Keeps records in SQLite. A write has survived `kill -9` once it is awaited.

    Writes that wait at the same time share one transaction. (Write-ahead logging with
    synchronous = NORMAL: a power cut may lose the last moments, a killed process nothing.) Reads
    have a connection of their own, so that they do not wait for a write that has to wait. One
    server at a time uses a folder; a lock that ends with the process holds the others off.

    Args:
        folder: where the database lies; is made if it is not there.
        on_change: called on the event loop when `has_failed` has changed.

    Attributes:
        has_failed: whether the last write failed.

    Raises:
        SettingsError: the folder or the database cannot be used, or another server uses it.
    """

    def __init__(self, folder: Path, on_change: Callable[[], None] = lambda: None) -> None:
        self.has_failed = False
        self._on_change = on_change
        self._path = folder / "sessions.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _warn_if_readable_by_others(folder)
            self._folder_lock = _lock(folder)
            self._path.touch(mode=0o600)
            self._db = _connect(self._path)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_AT_MOST}")
            self._db.executescript(_SCHEMA)
            if "owner" not in {row[1] for row in self._db.execute("PRAGMA table_info(gone)")}:
                self._db.execute("ALTER TABLE gone ADD COLUMN owner BLOB")  # version 0.1 had none
            self.now: Callable[[], float] = StoreClock(self._last_seen())
            self._db.execute(*self._tick())  # a database that cannot be written to is refused here
            self._reads = _connect(self._path)
            self._file = self._path.stat()
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(
                f"state_dir = {str(folder)!r}: {self._path.name} cannot be used: {error}; free or "
                "repair it, or name another folder with --state-dir"
            ) from error
        # The one thread that uses _db, and the one that uses _reads.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reads")
        self._lock = threading.Lock()  # guards the two below
        self._writes: list[Write] = []
        self._flush: asyncio.Future[None] | None = None
        self._unwritten: dict[str, asyncio.Future[None]] = {}  # writes on their way, by session
        self._is_closed = False

    def _last_seen(self) -> float:
        """Return the latest time that anything here was written by; today where nothing was."""
        asked = "SELECT max(used), (SELECT now FROM clock) FROM sessions"
        used, now = self._db.execute(asked).fetchone()
        return time.time() if used is None else max(used, now or 0.0)

    def _tick(self) -> Write:
        return "INSERT OR REPLACE INTO clock VALUES (0, ?)", (self.now(),)

    async def get(self, session_id: str, owner: bytes) -> Record | Gone:
        """See SessionStore."""
        unwritten = self._unwritten.get(session_id)
        if unwritten is not None:  # whoever waited for it may have been cancelled
            await asyncio.wait([unwritten])
        return await self._read(self._select, session_id, owner)

    async def put(self, session_id: str, record: Record) -> None:
        """See SessionStore."""
        await self._write(
            (
                "INSERT INTO sessions VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET used = excluded.used, data = excluded.data",
                (session_id, record.used, record.data),
            ),
            session_id=session_id,
        )

    async def remove(self, session_id: str, gone: Gone) -> None:
        """See SessionStore."""
        await self._write(
            (
                f"INSERT OR REPLACE INTO gone SELECT id, ?, ?, {_OWNER} FROM sessions WHERE id = ?",
                (gone.value, self.now(), session_id),
            ),
            ("DELETE FROM sessions WHERE id = ?", (session_id,)),
            session_id=session_id,
        )

    async def count_of(self, owner: bytes) -> int:
        """See SessionStore."""
        return await self._read(self._count_of, owner)

    async def touch(self, uses: Mapping[str, float]) -> None:
        """See SessionStore."""
        noted = "UPDATE sessions SET used = max(used, ?) WHERE id = ?"
        await self._write(*((noted, (used, each)) for each, used in uses.items()))

    async def expire(self, before: float, keep: Callable[[str], bool] = lambda _: False) -> int:
        """See SessionStore."""
        expired, last = 0, (float("-inf"), "")
        while old := await self._read(self._oldest, before, last):
            last = old[-1]
            expired += await self._remove_if_as_old([each for each in old if not keep(each[1])])
        await self._write(
            self._tick(), ("DELETE FROM gone WHERE at < ?", (self.now() - GONE_SECONDS,))
        )
        return expired

    def close(self) -> None:
        """Finish writing; what cannot be written is logged. Closing again does no harm."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._thread.submit(self._commit, self._tick()).result()
        except sqlite3.Error as error:
            log.error("the last sessions could not be saved: %s", error)
        for thread in (self._thread, self._reader):
            thread.shutdown()
        for database in (self._reads, self._db):  # the last connection empties the WAL
            database.close()
        os.close(self._folder_lock)

    def count(self) -> int:
        """Return the number of records.

        Raises:
            StoreError: the database cannot be read.
        """
        asked = "SELECT count(*) FROM sessions"
        with _typed("read"):
            count: int = self._reader.submit(
                lambda: self._reads.execute(asked).fetchone()[0]
            ).result()
        return count

    async def _read(self, query: Callable[..., T], *arguments: Any) -> T:
        with _typed("read"):
            return await asyncio.get_running_loop().run_in_executor(self._reader, query, *arguments)

    async def _write(self, *writes: Write, session_id: str = "") -> None:
        with self._lock:
            self._writes.extend(writes)
            if self._flush is None:
                loop = asyncio.get_running_loop()
                self._flush = loop.run_in_executor(self._thread, self._commit)
                self._flush.add_done_callback(self._note)
            flush = self._flush
        self._unwritten[session_id] = flush
        flush.add_done_callback(lambda done: self._forget(session_id, done))
        with _typed("write"):
            await asyncio.shield(flush)

    def _note(self, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        had_failed, self.has_failed = self.has_failed, done.exception() is not None
        if had_failed != self.has_failed:
            self._on_change()

    def _forget(self, session_id: str, done: asyncio.Future[None]) -> None:
        if self._unwritten.get(session_id) is done:
            del self._unwritten[session_id]

    def _commit(self, *last: Write) -> None:
        with self._lock:  # from here on, new writes belong to the next transaction
            self._flush = None
            writes, self._writes = self._writes, []
        with self._transaction():
            for statement, values in (*writes, *last):
                self._db.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._is_there():
            raise sqlite3.OperationalError(f"{self._path} is gone, or is another file by now")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _is_there(self) -> bool:
        """Tell whether the file is where it was opened; SQLite would write to a deleted one."""
        try:
            return os.path.samestat(self._path.stat(), self._file)
        except OSError:
            return False

    def _select(self, session_id: str, owner: bytes) -> Record | Gone:
        asked = (session_id, owner)
        row = self._reads.execute(
            f"SELECT used, data FROM sessions WHERE id = ? AND {_OWNER} = ?", asked
        ).fetchone()
        if row is not None:
            return Record(*row)
        row = self._reads.execute(
            "SELECT fate FROM gone WHERE id = ? AND ifnull(owner, ?2) = ?2", asked
        ).fetchone()
        return Gone.UNKNOWN if row is None else Gone(row[0])

    def _count_of(self, owner: bytes) -> int:
        asked = f"SELECT count(*) FROM sessions WHERE {_OWNER} = ?"
        count: int = self._reads.execute(asked, (owner,)).fetchone()[0]
        return count

    def _oldest(self, before: float, last: tuple[float, str]) -> list[tuple[float, str]]:
        """Return last use and id of the next records, behind the last ones in that order."""
        asked = (
            "SELECT used, id FROM sessions WHERE used < ? AND (used, id) > (?, ?) "
            "ORDER BY used, id LIMIT ?"
        )
        return self._reads.execute(asked, (before, *last, PORTION)).fetchall()

    async def _remove_if_as_old(self, records: list[tuple[float, str]]) -> int:
        def remove() -> int:
            there = "FROM sessions WHERE used = ? AND id = ?"
            fate = f"'{Gone.EXPIRED.value}', ?, {_OWNER}"
            noted = f"INSERT OR REPLACE INTO gone SELECT id, {fate} {there}"
            with self._transaction():
                self._db.executemany(noted, [(self.now(), *record) for record in records])
                return self._db.executemany(f"DELETE {there}", records).rowcount

        removing = asyncio.get_running_loop().run_in_executor(self._thread, remove)
        removing.add_done_callback(self._note)
        with _typed("write"):
            return await removing


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
    )


def _lock(folder: Path) -> int:
    """Keep other servers out of a folder until the returned descriptor is closed."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SettingsError(
            f"state_dir = {str(folder)!r}: another server uses this folder, and two would lose "
            "each other's sessions; stop that one, or name another folder with --state-dir"
        ) from error
    return descriptor


def _warn_if_readable_by_others(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o777
    if mode & 0o077:
        log.warning(
            "state_dir = %s: other users of this machine can read it (mode %o); "
            "chmod 700 keeps them out",
            folder,
            mode,
        )


@contextmanager
def _typed(what: str) -> Iterator[None]:
    """Raise StoreError for what SQLite raises."""
    try:
        yield
    except sqlite3.Error as error:
        log.error("sessions cannot be %s: %s", {"read": "read", "write": "written"}[what], error)
        raise StoreError(
            {
                "read": "the session could not be read; try again later",
                "write": "the session could not be written down and stays as it was; try again "
                "later",
            }[what]
        ) from error
