"""The folder of sessions that end with the server, where several processes share them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryDirectory, gettempdir

from serving.sessions.disk.folder import remove_if_unused

PREFIX = "unroll-sessions-"
SUPERVISOR = "supervisor"  # file that a supervisor holds a lock on while it lives


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for the block, and remove those of servers that were killed as a whole."""
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove_if_left(folder)
    with ExitStack() as stack:
        yield _made(stack)


def _made(stack: ExitStack) -> Path:
    """Make a folder that is removed with the stack, and hold it."""
    while True:
        making = TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(making))
        lock = stack.enter_context(open(folder / SUPERVISOR, "ab"))  # noqa: PTH123, SIM115
        fcntl.flock(lock, fcntl.LOCK_SH)
        if (folder / SUPERVISOR).exists():  # else another took it for one that was left
            return folder


def _remove_if_left(folder: Path) -> None:
    """Remove a folder of this user's without a supervisor and without a process that uses it."""
    if folder.lstat().st_uid != os.getuid():
        return
    files = [folder / SUPERVISOR, folder / "lock"]
    if not all(S_ISREG(file.lstat().st_mode) for file in files if os.path.lexists(file)):
        return  # nobody's of ours; to open a pipe would wait
    with open(folder / SUPERVISOR, "rb") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_if_unused(folder)
