"""One of the models that are compared: what its training left on disk."""

from dataclasses import dataclass

import numpy as np

from report.curves import Course, read_course
from report.settings import TITLES
from training.run.checkpoint import Checkpoint, load_checkpoint
from training.run.folder import RunFolder
from training.settings import Cell, TrainingSettings

MOMENTS = 5  # at most, of a training, to take samples at


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model.

    Attributes:
        settings: of its training.
        course: of its training.
        moments: the weights at some moments, the untrained ones first and the best last.
    """

    settings: TrainingSettings
    course: Course
    moments: list[Checkpoint]

    @property
    def cell(self) -> Cell:
        """Its recurrent cell."""
        return self.settings.cell

    @property
    def title(self) -> str:
        """What it is called within a sentence."""
        return TITLES[self.cell]

    @property
    def label(self) -> str:
        """What it is called where it stands alone."""
        return self.title[0].upper() + self.title[1:]

    @property
    def untrained(self) -> Checkpoint:
        """The weights before the first update."""
        return self.moments[0]

    @property
    def best(self) -> Checkpoint:
        """The weights of the lowest validation loss."""
        return self.moments[-1]

    @property
    def per_update(self) -> int:
        """Characters of an update."""
        return self.settings.streams * self.settings.window


def read_subjects(trained: list[tuple[TrainingSettings, RunFolder]]) -> list[Subject]:
    """Read finished trainings; all get as many moments, spread evenly over those that were kept.

    Raises:
        CheckpointError: weights are damaged.
    """
    kept = []
    for _, folder in trained:
        best = load_checkpoint(folder.best)
        updates = [u for u in folder.kept_updates() if u < best.metrics.update]
        kept.append((folder, updates, best))
    count = min(MOMENTS, *(len(updates) + 1 for _, updates, _ in kept))
    subjects = []
    for (settings, _), (folder, updates, best) in zip(trained, kept, strict=True):
        chosen = np.linspace(0, len(updates), count).round().astype(int)[:-1]
        moments = [load_checkpoint(folder.snapshot(updates[i])) for i in chosen]
        subjects.append(
            Subject(
                settings=settings,
                course=read_course(folder.metrics, settings),
                moments=[*moments, best],
            )
        )
    return subjects
