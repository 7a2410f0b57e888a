"""Files that are reloaded when they change."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
# A file that is written twice within a tick of the file system's clock has one time for both. What
# is younger than this when it is read is looked at again.
SETTLED_SECONDS = 1.0

_Stamp = tuple[int, int, int, int]


class Watched(Generic[T]):
    """What some files mean, as of their last change.

    Args:
        paths: the files.
        read: reads them all and returns what they mean; is called on whatever thread asks.
    """

    def __init__(self, paths: tuple[Path, ...], read: Callable[[], T]) -> None:
        self._paths = paths
        self._read = read
        self._stamps: tuple[_Stamp, ...] = ()
        self._meaning: T

    def current(self) -> tuple[T, bool]:
        """Return what the files mean, and whether they were read again for this.

        Raises:
            OSError: a file is not there or cannot be read.
            Exception: whatever `read` raises; the files are read again the next time.
        """
        stamps = tuple(_stamp(path) for path in self._paths)
        if stamps == self._stamps:
            return self._meaning, False
        self._stamps = ()
        self._meaning = self._read()
        if time.time_ns() - max(changed for changed, *_ in stamps) > SETTLED_SECONDS * 1e9:
            self._stamps = stamps
        return self._meaning, True


def _stamp(path: Path) -> _Stamp:
    """Return what changes when a file does; first when it changed, which no program can set."""
    found = os.stat(path)  # noqa: PTH116, five times as fast as Path.stat, and once a call
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino
