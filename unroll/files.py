"""Files that are read whole, and are what they seem; and what only one process writes to."""

import errno
import os
import stat
from pathlib import Path

SETTINGS_BYTES = 2**20  # of a file of tokens, keys or certificates, at most


class IrregularFileError(OSError):
    """A pipe, a device or a folder stands where a file is to be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", str(path))


def open_regular(path: Path) -> int:
    """Open a regular file; without O_NONBLOCK, a named pipe would wait for its writer.

    Raises:
        IrregularFileError: it is none.
        OSError: it cannot be opened.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise IrregularFileError(path)
    return opened


def read_settings(path: Path) -> bytes:
    """Read a file of settings, which is small.

    Raises:
        OSError: it cannot be read, is not a regular file, or has more than SETTINGS_BYTES.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(SETTINGS_BYTES + 1)
    if len(data) > SETTINGS_BYTES:
        problem = f"it has more than {SETTINGS_BYTES} bytes"
        raise OSError(errno.EFBIG, problem, str(path))
    return data


def hold(descriptor: int, path: Path) -> bool:
    """Keep other processes of this machine out of a file or folder until it is closed.

    Args:
        descriptor: of it, open.
        path: where it was opened.

    Returns:
        False if another process holds it, or it is not there any more. True also where the system
        knows no such locks, as some network file systems.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except (BlockingIOError, FileNotFoundError):
        return False
    except (ImportError, OSError):
        return True
