"""The folder of a run: what lies where in it, and how an older one makes room."""

import itertools
import os
from pathlib import Path

from training.run.checkpoint import BEST, LAST, METRICS
from unroll.errors import CheckpointError, SettingsError
from unroll.files import hold


class RunFolder:
    """A run's files: runs/NAME/{best,last}.safetensors, metrics.jsonl, loss.png, samples.txt.

    Where they are asked for, snapshots/UPDATE.safetensors as well.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / BEST
        self.last = path / LAST
        self.metrics = path / METRICS
        self.plot = path / "loss.png"
        self.samples = path / "samples.txt"
        self.snapshots = path / "snapshots"
        self._held: int | None = None  # a descriptor of the folder

    def create(self) -> Path | None:
        """Make the folder and hold it; one with an older run is moved aside, never overwritten.

        Returns:
            Where the older run lies now, NAME.1 or the first number that is free.

        Raises:
            SettingsError: nothing can be written there, or another training writes there now.
        """
        moved = None
        try:
            self._make()
            if any(self.path.iterdir()):
                moved = self._move_aside()
                self.close()
                self._make()
        except OSError as error:
            raise SettingsError(
                f"{self.path}: cannot be made: {error.strerror}; change --runs-dir"
            ) from error
        return moved

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.hold()

    def hold(self) -> None:
        """Keep other trainings of this machine out of the folder until `close`.

        Raises:
            SettingsError: another one writes there, or has moved it aside.
            OSError: it cannot be opened.
        """
        self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        if not hold(self._held, self.path):
            self.close()
            raise SettingsError(
                f"{self.path}: another training writes there now; wait until it has ended, or "
                "choose another --name"
            )

    def close(self) -> None:
        """Let other trainings write there."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _move_aside(self) -> Path:
        places = (self.path.with_name(f"{self.path.name}.{n}") for n in itertools.count(1))
        return self.path.rename(next(place for place in places if not place.exists()))

    def require_resumable(self) -> Path:
        """Return the checkpoint to resume from.

        Raises:
            CheckpointError: there is none.
        """
        if not self.last.is_file():
            raise CheckpointError(
                f"{self.last}: nothing to resume; check --name and --runs-dir, "
                "or leave out --resume"
            )
        return self.last

    def snapshot(self, update: int) -> Path:
        """Return where the weights after so many updates are kept."""
        return self.snapshots / f"{update:08}.safetensors"

    def kept_updates(self) -> list[int]:
        """List the updates whose weights are kept, in order."""
        return sorted(int(file.stem) for file in self.snapshots.glob("[0-9]*.safetensors"))

    def add_sample(self, title: str, text: str) -> None:
        """Append a sample to the run's samples."""
        with self.samples.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"--- {title}\n{text}\n\n")
