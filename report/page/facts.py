"""The few figures of each model that the verdict is built from."""

import math
from dataclasses import dataclass

import numpy as np

from report.measures.gradients import decay_per_step
from report.measures.measurements import MEMORY_REACH, TEMPERATURES, Measured, Measurements
from report.measures.surprise import Difference, run_away
from report.measures.texts import Share, TextMeasures

PLAIN = TEMPERATURES.index(1.0)  # the model's own distribution


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One model in figures; losses are nats per character.

    Attributes:
        title: what it is called.
        loss: on held-out text.
        training_loss: on as much of the training text, measured in the same way.
        speed: characters a second in training.
        characters: read in training.
        best_at: share of the training's time after which validation was best.
        lowest, last: validation losses: the lowest one and the one at the end.
        rollbacks: explosions that it went back from.
        given_up: whether it was given up because it exploded once more.
        roughness: median step of the training loss from one update to the next, late.
        gradient_median, gradient_high: norm of the updates' gradients: median, 95th percentile.
        clipped: share of the updates whose gradient was cut.
        texts: measures of what it writes at temperature 1.
        memory: symbols after which another past is forgotten; None if beyond what was measured.
        decay: factor by which gradients shrink or grow a step back, by tensor of the state: None
            where they are 0.
        decay_before: the same before training.
        runaways: stretches of held-out text in which the carried state led it astray.
        calm_loss: on the other stretches; None where all are.
    """

    title: str
    loss: float
    training_loss: float
    speed: float
    characters: float
    best_at: float
    lowest: float
    last: float
    rollbacks: int
    given_up: bool
    roughness: float
    gradient_median: float
    gradient_high: float
    clipped: float
    texts: TextMeasures
    memory: int | None
    decay: dict[str, float | None]
    decay_before: dict[str, float | None]
    runaways: int = 0
    calm_loss: float | None = None

    @property
    def gap(self) -> float:
        """How much worse it is on text that it was not trained on, where its state is at home."""
        return (self.loss if self.calm_loss is None else self.calm_loss) - self.training_loss


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All models in figures.

    Attributes:
        models: at least two.
        differences: [i][j]: by how much the loss of i is lower than that of j.
        reference: measures of real text that none was trained on.
        memory_reach: symbols back that memory was measured to.
    """

    models: list[Facts]
    differences: list[list[Difference]]
    reference: TextMeasures
    memory_reach: int


def facts_of(measured: Measured) -> Facts:
    """Pick a model's figures out of its measurements."""
    course = measured.subject.course
    median, high = np.percentile(course.gradient_norm, [50, 95])
    astray = run_away(measured.nats)
    return Facts(
        runaways=int(astray.sum()),
        calm_loss=float(measured.nats[~astray].mean()) if astray.any() else None,
        title=measured.subject.title,
        loss=measured.loss,
        training_loss=measured.training_loss,
        speed=course.characters_per_second,
        characters=float(course.characters[-1]),
        best_at=course.best_at,
        lowest=float(course.validation_loss.min()),
        last=float(course.validation_loss[-1]),
        rollbacks=course.rollbacks,
        given_up=course.given_up,
        roughness=course.roughness,
        gradient_median=float(median),
        gradient_high=float(high),
        clipped=course.clipped,
        texts=measured.texts[PLAIN],
        memory=measured.memory.length,
        decay={name: decay_per_step(norms) for name, norms in measured.after.items()},
        decay_before={name: decay_per_step(norms) for name, norms in measured.before.items()},
    )


def compare_all(measurements: Measurements) -> Comparison:
    """Pick the figures of all models."""
    indices = range(len(measurements.models))
    return Comparison(
        models=[facts_of(model) for model in measurements.models],
        differences=[[measurements.difference(i, j) for j in indices] for i in indices],
        reference=measurements.reference,
        memory_reach=MEMORY_REACH,
    )


def differ(first: Share | None, second: Share | None) -> bool:
    """Whether two shares differ by more than twice what chance makes of their difference."""
    if first is None or second is None:
        return False
    return abs(first.value - second.value) > 2 * math.hypot(first.error, second.error)
