"""How far a training has come, and the learning rate there."""

import math
from dataclasses import dataclass
from typing import Literal

from training.data.streams import Streams
from training.data.units import Units
from training.run.state import Progress
from training.settings import TrainingSettings

MEASURING_AT_MOST = 0.1  # of a time budget: validations and samples together
VALIDATION_AT_MOST = 0.02  # of a time budget: a single one
RESERVE_AT_MOST = 0.2  # of a time budget; a validation on a busy machine must not eat it all
# Under a time budget the first validation and the compiling of the steps may take longer than the
# warm-up, and Adam's first updates at the full rate move all weights by it, all the same way: ReLU
# layers exploded.
WARMUP_UPDATES_AT_LEAST = 50


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate as a function of progress.

    Args:
        kind: after the warm-up, fall linearly to zero or stay constant.
        warmup_fraction: share of the training in which the rate rises from zero, in [0, 1).
    """

    kind: Literal["linear", "constant"]
    warmup_fraction: float

    def factor(self, progress: float) -> float:
        """Return the factor of the highest rate, in [0, 1], at a progress in [0, 1]."""
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        if self.kind == "constant":
            return 1.0
        return max(0.0, 1 - progress) / (1 - self.warmup_fraction)


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a training lasts: a number of updates, or of seconds; what comes first ends it.

    Args:
        updates: planned updates; infinite where only a time is given.
        seconds: wall clock; infinite where only a number of epochs is given.
    """

    updates: float = math.inf
    seconds: float = math.inf

    @classmethod
    def of(cls, settings: TrainingSettings, streams: Streams | Units) -> "Length":
        """Return the length that settings ask for."""
        updates = sum(streams.windows(epoch) for epoch in range(settings.epochs))
        return cls(updates=updates or math.inf, seconds=60 * settings.minutes or math.inf)

    def progress(self, update: int, elapsed: float, reserve: float) -> float:
        """Return the progress in (0, 1] at the start of an update.

        Args:
            update: updates done.
            elapsed: seconds gone.
            reserve: seconds to keep for the last validation and sample.
        """
        # The + 1 keeps the first and the last rate of an update above zero.
        by_updates = (update + 1) / (self.updates + 1) if self.updates < math.inf else 0.0
        by_time = elapsed / self._usable(reserve)
        return min(1.0, max(by_updates, by_time))

    def warmup(self, update: int) -> float:
        """Return what an update's rate may be at most, as a factor, in (0, 1].

        Args:
            update: updates done, since the start or since an explosion led back there.
        """
        if self.seconds == math.inf:
            return 1.0
        return min(1.0, (update + 1) / WARMUP_UPDATES_AT_LEAST)

    @property
    def validation_seconds(self) -> float:
        """How long one validation may take."""
        return VALIDATION_AT_MOST * self.seconds

    def affords(self, measuring: float, reserve: float, elapsed: float) -> bool:
        """Whether one more validation leaves those so far, and the last, their share of the time.

        Args:
            measuring: seconds of those so far.
            reserve: seconds that one takes.
            elapsed: seconds gone.
        """
        return self.seconds == math.inf or (
            measuring + 2 * reserve <= MEASURING_AT_MOST * min(elapsed, self.seconds)
        )

    def over(self, update: int, elapsed: float, reserve: float) -> bool:
        """Whether there is nothing left to do but the end."""
        return update >= self.updates or (update > 0 and elapsed >= self._usable(reserve))

    def _usable(self, reserve: float) -> float:
        return self.seconds - min(reserve, RESERVE_AT_MOST * self.seconds)


class Pace:
    """How fast a training goes, and how long it will still take.

    Args:
        begun: where it stood when this process took it up.
        symbols: symbols of an update.
    """

    def __init__(self, begun: Progress, symbols: int) -> None:
        self._begun, self._symbols = begun, symbols

    def now(self, update: int, elapsed: float, length: Length) -> tuple[float, float]:
        """Return symbols a second and seconds to go, validation and samples included."""
        updates = update - self._begun.update
        seconds = max(elapsed - self._begun.elapsed, 1e-9)
        left = (length.updates - update) * seconds / max(updates, 1)
        return updates * self._symbols / seconds, min(left, length.seconds - elapsed)
