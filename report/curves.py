"""The course of a training, read from its log."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.log.metrics import read_metrics
from training.log.plot import rolling_average
from training.settings import TrainingSettings

Floats = NDArray[np.float64]
POINTS = 400  # of a drawn curve; more cannot be seen


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a training logged.

    Attributes:
        characters: read after each update, (updates,).
        seconds: gone after each update, between milestones in proportion, (updates,).
        loss: of each update, nats per character, (updates,).
        gradient_norm: of each update, before clipping, (updates,).
        validation_characters: read at each validation, (validations,).
        validation_seconds: gone at each validation, (validations,).
        validation_loss: nats per character, (validations,).
        rollbacks: explosions, each of which cost up to 100 updates.
        given_up: whether it ended because it exploded once more.
        gradient_clip: norm that gradients were cut to; 0 is none.
    """

    characters: Floats
    seconds: Floats
    loss: Floats
    gradient_norm: Floats
    validation_characters: Floats
    validation_seconds: Floats
    validation_loss: Floats
    rollbacks: int
    given_up: bool
    gradient_clip: float

    @property
    def characters_per_second(self) -> float:
        """Speed, validations and samples included."""
        return float(self.characters[-1] / self.seconds[-1])

    @property
    def clipped(self) -> float:
        """Share of the updates whose gradient was cut."""
        return float((self.gradient_norm > self.gradient_clip).mean()) if self.gradient_clip else 0

    @property
    def roughness(self) -> float:
        """Median step of the loss from one update to the next, in the second half."""
        half = self.loss[len(self.loss) // 2 :]
        return float(np.median(np.abs(np.diff(half)))) if len(half) > 1 else 0.0

    @property
    def best_at(self) -> float:
        """Share of the training's seconds that were gone at its best validation."""
        return float(self.validation_seconds[self.validation_loss.argmin()] / self.seconds[-1])

    def average(self) -> tuple[int, slice, Floats]:
        """Return the rolling average's width, the updates that it belongs to, and itself."""
        width = max(1, len(self.loss) // 50)
        return width, slice(width - 1, None), rolling_average(self.loss, width)


def read_course(log: Path, settings: TrainingSettings) -> Course:
    """Read a training's log."""
    records = list(read_metrics(log))
    updates = [record for record in records if record["event"] == "update"]
    milestones = [record for record in records if record["event"] == "milestone"]
    number = np.array([record["update"] for record in updates], np.float64)
    at = np.array([0, *(record["update"] for record in milestones)], np.float64)
    gone = np.array([0, *(record["seconds"] for record in milestones)], np.float64)
    per_update = settings.streams * settings.window
    return Course(
        characters=number * per_update,
        seconds=np.interp(number, at, gone),
        loss=np.array([record["loss"] for record in updates], np.float64),
        gradient_norm=np.array([record["gradient_norm"] for record in updates], np.float64),
        validation_characters=at[1:] * per_update,
        validation_seconds=gone[1:],
        validation_loss=np.array([r["validation_loss"] for r in milestones], np.float64),
        rollbacks=sum(record["event"] == "rollback" for record in records),
        given_up=any(record["event"] == "given_up" for record in records),
        gradient_clip=settings.gradient_clip,
    )


def thin(values: Floats) -> Floats:
    """Take at most POINTS of a curve's points, evenly, first and last among them."""
    count = min(len(values), POINTS)
    chosen: Floats = values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)]
    return chosen
