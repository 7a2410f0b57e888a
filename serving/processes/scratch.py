"""The folder of sessions that end with the server, where several processes share them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from serving.sessions.disk_folder import remove_if_unused

PREFIX = "unroll-sessions-"
SUPERVISOR = "supervisor"  # file that a supervisor holds a lock on while it lives


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for the block, and remove those of servers that were killed as a whole."""
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove_if_left(folder)
    making = TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with making as name, open(Path(name, SUPERVISOR), "ab") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield Path(name)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder of this user's without a supervisor and without a process that uses it."""
    if folder.lstat().st_uid != os.getuid():
        return
    with open(folder / SUPERVISOR, "rb") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_if_unused(folder)
