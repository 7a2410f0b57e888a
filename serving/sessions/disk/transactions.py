"""Writes to an SQLite database: those that wait at the same time share one transaction."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

BUSY_SECONDS = 2.0  # another process may hold the database for so long
T = TypeVar("T")
Chore = Callable[[sqlite3.Connection], T]


def connect(path: Path) -> sqlite3.Connection:
    """Open a database whose transactions are begun and ended by hand."""
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
    )


class Transactions:
    """Does chores on one thread, in their order, each transaction as many as wait.

    Args:
        path: of the database.
        db: a connection that only this uses.
        on_change: called on the event loop when `has_failed` has changed.

    Attributes:
        has_failed: whether the last transaction failed.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, on_change: Callable[[], None]) -> None:
        self.has_failed = False
        self._on_change = on_change
        self._path = path
        self._file = path.stat()
        self._db = db
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock = threading.Lock()  # guards the two below
        self._waiting: list[tuple[Chore[Any], Future[Any]]] = []
        self._is_scheduled = False

    async def do(self, chore: Chore[T]) -> T:
        """Do a chore and return its result once it is written.

        Raises:
            sqlite3.Error: nothing of its transaction is written.
        """
        done: Future[T] = Future()
        with self._lock:
            self._waiting.append((chore, done))
            if not self._is_scheduled:
                self._is_scheduled = True
                self._thread.submit(self._work)
        result = asyncio.wrap_future(done)
        result.add_done_callback(self._note)
        return await asyncio.shield(result)

    def close(self, last: Chore[object]) -> None:
        """Do what waits and a last chore, then stop; raises as `do`."""
        try:
            self._thread.submit(self._transact, [last]).result()
        finally:
            self._thread.shutdown()
            self._db.close()

    def _work(self) -> None:
        with self._lock:  # from here on, new chores belong to the next transaction
            self._is_scheduled = False
            waiting, self._waiting = self._waiting, []
        try:
            results = self._transact([chore for chore, _ in waiting])
        except BaseException as error:
            for _, done in waiting:
                done.set_exception(error)
            return
        for (_, done), result in zip(waiting, results, strict=True):
            done.set_result(result)

    def _transact(self, chores: list[Chore[Any]]) -> list[Any]:
        self.check()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            results = [chore(self._db) for chore in chores]
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return results

    def check(self) -> None:
        """See that the file is where it was opened; SQLite would go on with a deleted one.

        Raises:
            sqlite3.OperationalError: it is not.
        """
        try:
            is_there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            is_there = False
        if not is_there:
            raise sqlite3.OperationalError(f"{self._path} is gone, or is another file by now")

    def _note(self, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        had_failed, self.has_failed = self.has_failed, done.exception() is not None
        if had_failed != self.has_failed:
            self._on_change()
