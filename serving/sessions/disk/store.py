"""Where sessions outlive the server: an SQLite database that the processes of a machine share."""

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from serving.sessions.clock import StoreClock
from serving.sessions.disk.folder import DiskFolder
from serving.sessions.disk.records import DiskRecords
from serving.sessions.disk.transactions import Transactions
from serving.sessions.store import (
    LEASE_SECONDS,
    TAG_BYTES,
    Busy,
    Change,
    Found,
    Gone,
    Lease,
    NewSession,
)
from unroll.errors import StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")


class DiskStore:
    """Keeps sessions in SQLite. A write has survived `kill -9` once it is awaited.

    (Write-ahead logging with synchronous = NORMAL: a power cut may lose the last moments, a killed
    process nothing.) Any number of processes of one machine may use a folder.

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
        self._folder = DiskFolder(folder)
        self.now: Callable[[], float] = StoreClock(self._folder.now)
        self._records = DiskRecords(lambda: self.now(), idle_seconds)  # noqa: PLW0108 (tests set it)
        self._writes = Transactions(self._folder.path, self._folder.writes, on_change)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reads")
        self._is_closed = False

    @property
    def has_failed(self) -> bool:
        """See SessionStore."""
        return self._writes.has_failed

    async def create(self, sessions: Sequence[NewSession], at_most: int = 0) -> int | None:
        """See SessionStore."""
        return await self._write(partial(self._records.create, sessions, at_most))

    async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
        """See SessionStore."""
        with _typed("read"):
            return await asyncio.get_running_loop().run_in_executor(
                self._reader, self._read, session_id, owner, known
            )

    def _read(self, session_id: str, owner: bytes, known: bytes) -> Found | Gone:
        self._writes.check()
        db = self._folder.reads
        db.execute("BEGIN")  # session and marks of one moment
        try:
            return self._records.read(session_id, owner, known, db)
        finally:
            db.execute("COMMIT")

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        """See SessionStore."""
        key = secrets.token_bytes(TAG_BYTES)
        return await self._write(partial(self._records.begin, session_id, owner, known, key))

    async def renew(self, lease: Lease) -> bool:
        """See SessionStore."""
        return await self._write(partial(self._records.renew, lease))

    async def release(self, lease: Lease) -> None:
        """See SessionStore."""
        await self._write(partial(self._records.release, lease))

    async def commit(self, lease: Lease, change: Change) -> bool:
        """See SessionStore."""
        return await self._write(partial(self._records.commit, lease, change))

    async def end(self, lease: Lease) -> bool:
        """See SessionStore."""
        return await self._write(partial(self._records.end, lease))

    async def expire(self) -> int:
        """See SessionStore."""
        expired = 0
        while portion := await self._write(self._records.expire):
            expired += portion
        return expired

    async def close(self) -> None:
        """See SessionStore; what cannot be written is logged."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reader.shutdown()
        self._folder.reads.close()
        try:
            self._writes.close(self._records.note_time)
        except sqlite3.Error as error:
            log.error("the last sessions could not be saved: %s", error)
        self._folder.leave()

    def count(self) -> int | None:
        """See SessionStore.

        Raises:
            StoreError: the database cannot be read.
        """
        with _typed("read"):
            return self._reader.submit(self._records.count, self._folder.reads).result()

    async def _write(self, chore: Callable[[sqlite3.Connection], T]) -> T:
        with _typed("write"):
            return await self._writes.do(chore)


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
