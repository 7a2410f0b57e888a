"""A folder takes another's place at once: nobody finds neither, whenever a process is killed."""

import ctypes
import errno
import os
from pathlib import Path

_HERE = -100  # AT_FDCWD: paths are relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE
_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


def swap(draft: Path, folder: Path) -> None:
    """Put a draft in a folder's place; the old one, if any, ends up under the draft's name.

    Any number of processes may do so at the same time; the last one's draft stays.

    Args:
        draft: a folder on the same file system.
        folder: may be missing.

    Raises:
        OSError: it cannot be done, and both are as they were.
    """
    try:
        draft.rename(folder)  # if there is none, or an empty one
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        _exchange(draft, folder)


def _exchange(draft: Path, folder: Path) -> None:
    """Exchange two folders: by Linux, at once; else one after the other."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        if rename(_HERE, os.fsencode(draft), _HERE, os.fsencode(folder), _EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _UNKNOWN:
            raise OSError(number, os.strerror(number), str(folder))
    aside = draft.with_name(draft.name + ".old")
    folder.rename(aside)
    draft.rename(folder)
    aside.rename(draft)
