"""Folders that one process of a test session makes and all its processes read."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


class SharedFolders:
    """Folders by name, each made once, by whichever process asks first.

    Args:
        root: a folder that the processes of the session have in common and no other has.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the folder of that name; `make` has filled it, here or in another process.

        Nobody may write into it afterwards: copy it first.
        """
        folder, made = self._root / name, self._root / f"{name}.made"
        with FileLock(self._root / f"{name}.lock"):
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder
