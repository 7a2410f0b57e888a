"""Where sessions outlive the server: an SQLite database that the processes of a machine share."""

import asyncio
import fcntl
import logging
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from serving.sessions.clock import StoreClock
from serving.sessions.disk_schema import prepare
from serving.sessions.store import (
    FATE_SECONDS,
    LEASE_SECONDS,
    TAG_BYTES,
    Busy,
    Change,
    Contents,
    Found,
    Gone,
    Lease,
    NewSession,
)
from serving.sessions.transactions import Transactions, connect
from unroll.errors import SettingsError, StoreError

WAL_BYTES_AT_MOST = 64 * 2**20  # what is kept of the write-ahead log after a checkpoint
START_SECONDS = 60.0  # at the start, another process may hold the database for so long
PORTION = 1000  # sessions that expire in one transaction
_ROW = "SELECT key, owner, used, tag, lease, until, first, head FROM sessions WHERE id = ?"
_GONE = "INSERT OR REPLACE INTO gone SELECT id, '{}', ?, owner FROM sessions WHERE {}"
log = logging.getLogger(__name__)
T = TypeVar("T")


class DiskStore:
    """Keeps sessions in SQLite. A write has survived `kill -9` once it is awaited.

    (Write-ahead logging with synchronous = NORMAL: a power cut may lose the last moments, a killed
    process nothing.) Reads have a connection of their own, so that they do not wait for a write
    that has to wait. Any number of processes of one machine may use a folder.

    Args:
        folder: where the database lies; is made if it is not there.
        idle_seconds: sessions unused for longer expire; 0 keeps them for ever.
        on_change: called on the event loop when `has_failed` has changed.

    Raises:
        SettingsError: the folder or the database cannot be used.
    """

    lease_seconds = LEASE_SECONDS

    def __init__(
        self,
        folder: Path,
        idle_seconds: float = 0.0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._idle_seconds = idle_seconds
        path = folder / "sessions.sqlite3"
        with ExitStack() as undone, _refused(path):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _warn_if_readable_by_others(folder)
            path.touch(mode=0o600)
            self._lock = open(folder / "lock", "ab")  # noqa: SIM115, PTH123  # until the end
            undone.callback(self._lock.close)
            db = connect(path)
            undone.callback(db.close)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_AT_MOST}")
            self.now: Callable[[], float] = StoreClock(self._join(db) + time.monotonic())
            self._reads = connect(path)
            self._writes = Transactions(path, db, on_change)
            undone.pop_all()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reads")
        self._is_closed = False

    @property
    def has_failed(self) -> bool:
        """See SessionStore."""
        return self._writes.has_failed

    def _join(self, db: sqlite3.Connection) -> float:
        """Prepare the database, and let others see until the lock's end that it is in use."""
        _begin_patiently(db)  # those who start at the same time do so one by one
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_alone = True
            except BlockingIOError:
                is_alone = False
            starts = prepare(db, is_alone=is_alone)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            db.execute("COMMIT")
        except BlockingIOError as error:
            raise OSError("a server of an older version uses this folder; stop it first") from error
        return starts

    async def create(self, sessions: Sequence[NewSession], at_most: int = 0) -> int | None:
        """See SessionStore."""
        return await self._write(partial(self._create, sessions, at_most))

    def _create(
        self, sessions: Sequence[NewSession], at_most: int, db: sqlite3.Connection
    ) -> int | None:
        owner = sessions[0].owner
        if at_most:
            there = "SELECT count(*) FROM sessions WHERE owner = ?"
            count: int = db.execute(there, (owner,)).fetchone()[0]
            if count + len(sessions) > at_most:
                return count
        for each in sessions:
            made = db.execute(
                "INSERT OR IGNORE INTO sessions (id, owner, used, tag, head) "
                "VALUES (?, ?, ?, ?, ?)",
                (each.session_id, owner, self.now(), each.tag, each.contents.head),
            )
            if made.rowcount:
                assert made.lastrowid is not None
                _add_marks(db, made.lastrowid, 0, each.contents.marks)
        return None

    async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
        """See SessionStore."""
        with _typed("read"):
            return await asyncio.get_running_loop().run_in_executor(
                self._reader, self._read, session_id, owner, known
            )

    def _read(self, session_id: str, owner: bytes, known: bytes) -> Found | Gone:
        self._writes.check()
        self._reads.execute("BEGIN")  # session and marks of one moment
        try:
            found = self._find(session_id, owner, known, self._reads)
        finally:
            self._reads.execute("COMMIT")
        return found[0] if isinstance(found, tuple) else found

    def _find(
        self, session_id: str, owner: bytes, known: bytes, db: sqlite3.Connection
    ) -> tuple[Found, float] | Gone:
        """Return what is found, and for how long somebody holds its lease."""
        row = db.execute(_ROW, (session_id,)).fetchone()
        if row is None:
            asked = "SELECT fate FROM gone WHERE id = ? AND ifnull(owner, ?2) = ?2"
            fate = db.execute(asked, (session_id, owner)).fetchone()
            return Gone.UNKNOWN if fate is None else Gone(fate[0])
        key, its_owner, used, tag, lease, until, _, head = row
        if its_owner != owner:
            return Gone.UNKNOWN
        now = self.now()
        held = 0.0 if lease is None else until - now
        idle = 0.0 if held > 0 else now - used
        if 0 < self._idle_seconds < idle:
            return Gone.EXPIRED  # `expire` removes it soon
        contents = None if tag == known else Contents(head, _marks(db, key))
        return Found(tag, idle, contents), held

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        """See SessionStore."""
        key = secrets.token_bytes(TAG_BYTES)
        return await self._write(partial(self._begin, session_id, owner, known, key))

    def _begin(
        self, session_id: str, owner: bytes, known: bytes, key: bytes, db: sqlite3.Connection
    ) -> Lease | Busy | Gone:
        found = self._find(session_id, owner, known, db)
        if isinstance(found, Gone):
            return found
        if found[1] > 0:
            return Busy(found[1])
        now = self.now()
        db.execute(
            "UPDATE sessions SET lease = ?, until = ?, used = ? WHERE id = ?",
            (key, now + LEASE_SECONDS, now, session_id),
        )
        return Lease(session_id, owner, key, found[0])

    async def renew(self, lease: Lease) -> bool:
        """See SessionStore."""
        now = self.now()
        renewed = "UPDATE sessions SET until = ?, used = ? WHERE id = ? AND lease = ?"
        values = (now + LEASE_SECONDS, now, lease.session_id, lease.key)
        return await self._write(lambda db: db.execute(renewed, values).rowcount == 1)

    async def release(self, lease: Lease) -> None:
        """See SessionStore."""
        released = "UPDATE sessions SET lease = NULL, used = ? WHERE id = ? AND lease = ?"
        values = (self.now(), lease.session_id, lease.key)
        await self._write(lambda db: db.execute(released, values))

    async def commit(self, lease: Lease, change: Change) -> bool:
        """See SessionStore."""
        return await self._write(partial(self._commit, lease, change))

    def _commit(self, lease: Lease, change: Change, db: sqlite3.Connection) -> bool:
        row = db.execute(_ROW, (lease.session_id,)).fetchone()
        if row is None:
            return False
        key, _, _, tag, held, _, first, _ = row
        if tag == change.tag:
            return True
        if held != lease.key or tag != lease.found.tag:
            return False
        start, stop = first + change.skip, first + change.stop
        dropped = "DELETE FROM marks WHERE session = ? AND (number < ? OR number >= ?)"
        db.execute(dropped, (key, start, stop))
        _add_marks(db, key, stop, change.add)
        db.execute(
            "UPDATE sessions SET used = ?, tag = ?, lease = NULL, first = ?, head = ? "
            "WHERE key = ?",
            (self.now(), change.tag, start, change.head, key),
        )
        return True

    async def end(self, lease: Lease) -> bool:
        """See SessionStore."""
        return await self._write(partial(self._end, lease))

    def _end(self, lease: Lease, db: sqlite3.Connection) -> bool:
        which = (lease.session_id, lease.key)
        ended = _GONE.format(Gone.ENDED.value, "id = ? AND lease = ?")
        if not db.execute(ended, (self.now(), *which)).rowcount:
            fate = "SELECT fate FROM gone WHERE id = ? AND owner = ?"
            found = db.execute(fate, (lease.session_id, lease.owner)).fetchone()
            return bool(found == (Gone.ENDED.value,))
        self._remove(db, [lease.session_id])
        return True

    async def expire(self) -> int:
        """See SessionStore."""
        expired = 0
        while portion := await self._write(self._expire):
            expired += portion
        return expired

    def _expire(self, db: sqlite3.Connection) -> int:
        now = self.now()
        db.execute("UPDATE clock SET now = ?", (now,))
        db.execute("DELETE FROM gone WHERE at < ?", (now - FATE_SECONDS,))
        if not self._idle_seconds:
            return 0
        old = "used < ? AND (lease IS NULL OR until <= ?) ORDER BY used LIMIT ?"
        which = (now - self._idle_seconds, now, PORTION)
        ids = [row[0] for row in db.execute(f"SELECT id FROM sessions WHERE {old}", which)]
        expired = _GONE.format(Gone.EXPIRED.value, "id = ?")
        db.executemany(expired, [(now, each) for each in ids])
        self._remove(db, ids)
        return len(ids)

    def _remove(self, db: sqlite3.Connection, ids: list[str]) -> None:
        marks = "DELETE FROM marks WHERE session = (SELECT key FROM sessions WHERE id = ?)"
        db.executemany(marks, [(each,) for each in ids])
        db.executemany("DELETE FROM sessions WHERE id = ?", [(each,) for each in ids])

    async def close(self) -> None:
        """See SessionStore; what cannot be written is logged."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reader.shutdown()
        self._reads.close()
        now = self.now()
        try:
            self._writes.close(lambda db: db.execute("UPDATE clock SET now = ?", (now,)))
        except sqlite3.Error as error:
            log.error("the last sessions could not be saved: %s", error)
        self._lock.close()

    def count(self) -> int | None:
        """See SessionStore.

        Raises:
            StoreError: the database cannot be read.
        """
        asked = "SELECT count(*) FROM sessions"
        with _typed("read"):
            count: int = self._reader.submit(
                lambda: self._reads.execute(asked).fetchone()[0]
            ).result()
        return count

    async def _write(self, chore: Callable[[sqlite3.Connection], T]) -> T:
        with _typed("write"):
            return await self._writes.do(chore)


def _begin_patiently(db: sqlite3.Connection) -> None:
    """Begin a transaction, though another process may have to migrate the database first."""
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
        else:
            return


def _marks(db: sqlite3.Connection, key: int) -> tuple[bytes, ...]:
    asked = "SELECT data FROM marks WHERE session = ? ORDER BY number"
    return tuple(row[0] for row in db.execute(asked, (key,)))


def _add_marks(db: sqlite3.Connection, key: int, first: int, marks: Sequence[bytes]) -> None:
    rows = [(key, number, data) for number, data in enumerate(marks, first)]
    db.executemany("INSERT INTO marks VALUES (?, ?, ?)", rows)


def remove_if_unused(folder: Path) -> None:
    """Remove a store that no process has open."""
    with suppress(OSError), open(folder / "lock", "ab") as lock:  # noqa: PTH123, as above
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


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
def _refused(path: Path) -> Iterator[None]:
    """Raise SettingsError for what keeps a database from being opened."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(
            f"state_dir = {str(path.parent)!r}: {path.name} cannot be used: {error}; free or "
            "repair it, or name another folder with --state-dir"
        ) from error


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
