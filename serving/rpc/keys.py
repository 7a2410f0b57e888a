"""The capsule keys of a server, read again when their file changes."""

import logging
from functools import partial
from pathlib import Path

from serving.access.watched import Watched
from serving.sessions.capsule import CapsuleKeys, read_keys
from unroll.errors import SettingsError

log = logging.getLogger(__name__)


class WatchedKeys:
    """Keeps capsule keys as their file says.

    Args:
        path: of the file; None for keys that stay as they are.

    Attributes:
        keys: that are in force; the object stays the same.

    Raises:
        SettingsError: see CapsuleKeys.load.
    """

    def __init__(self, path: Path | None) -> None:
        self.keys = CapsuleKeys.load(path)
        self._file = None if path is None else Watched((path,), partial(read_keys, path))
        self._trouble = ""  # that the log tells already

    def renew(self) -> None:
        """Use the keys that the file has now; if it has none, those of before stay."""
        if self._file is None:
            return
        trouble = ""
        try:
            keys, is_new = self._file.current()
            if is_new:
                self.keys.use(keys)
        except (OSError, SettingsError) as error:
            trouble = f"{error}; the capsule keys stay as they were"
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
        self._trouble = trouble
