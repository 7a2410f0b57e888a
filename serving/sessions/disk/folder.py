"""The folder of a disk store: its database, and the lock by which processes see each other."""

import fcntl
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from serving.sessions.disk.schema import prepare
from serving.sessions.disk.transactions import connect
from unroll.errors import SettingsError

WAL_BYTES_AT_MOST = 64 * 2**20  # what is kept of the write-ahead log after a checkpoint
START_SECONDS = 60.0  # at the start, another process may hold the database for so long
PAUSE_SECONDS = 0.01  # before another attempt
log = logging.getLogger(__name__)


class DiskFolder:
    """A folder of sessions that this process has open.

    Args:
        folder: where it lies; is made if it is not there.

    Attributes:
        path: of the database.
        writes: a connection to it.
        reads: another, so that reading does not wait for a write that has to wait.
        now: when this process joined, in the database's seconds.

    Raises:
        SettingsError: the folder or the database cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sessions.sqlite3"
        with ExitStack() as undone, _refused(self.path):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _warn_if_readable_by_others(folder)
            self.path.touch(mode=0o600)
            self._lock = open(folder / "lock", "ab")  # noqa: SIM115, PTH123  # until the end
            undone.callback(self._lock.close)
            self.writes = connect(self.path)
            undone.callback(self.writes.close)
            _patiently(self.writes, "PRAGMA journal_mode = WAL")
            self.writes.execute("PRAGMA synchronous = NORMAL")
            self.writes.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_AT_MOST}")
            self.now = self._join() + time.monotonic()
            self.reads = connect(self.path)
            undone.pop_all()

    def _join(self) -> float:
        """Prepare the database, and let others see until the lock's end that it is in use.

        Returns:
            When this machine's monotonic clock stood at 0, in the database's seconds.
        """
        _patiently(self.writes, "BEGIN IMMEDIATE")  # who start at the same time do so one by one
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_alone = True
            except BlockingIOError:
                is_alone = False
            starts = prepare(self.writes, is_alone=is_alone)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.writes.execute("COMMIT")
        except BlockingIOError as error:
            raise OSError("a server of an older version uses this folder; stop it first") from error
        return starts

    def leave(self) -> None:
        """Let go of the lock; both connections have to be closed before."""
        self._lock.close()


def remove_if_unused(folder: Path) -> None:
    """Remove a folder of sessions that no process has open."""
    with suppress(OSError), open(folder / "lock", "ab") as lock:  # noqa: PTH123, as above
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _patiently(db: sqlite3.Connection, statement: str) -> None:
    """Do what another process may keep waiting: it starts too, or migrates the database.

    SQLite's own timeout does not do: two processes that change the mode of the journal at the same
    time would wait for each other, so it refuses one of them at once.
    """
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            db.execute(statement)
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # of whatever kind
            if not is_busy or time.monotonic() > ends:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return


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
    except FileExistsError as error:
        raise SettingsError(
            f"state_dir = {str(path.parent)!r}: is a file, and a folder is wanted; change "
            "--state-dir"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(
            f"state_dir = {str(path.parent)!r}: {path.name} cannot be used: {error}; free or "
            "repair it, or name another folder with --state-dir"
        ) from error
