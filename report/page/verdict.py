"""The verdict: which model did what better, measured, in one table."""

import math
from collections.abc import Callable

import numpy as np

from report.measures.gradients import Norms, decay_per_step
from report.measures.measurements import Measured, Measurements
from report.measures.surprise import run_away
from report.measures.texts import Share, TextMeasures, differ
from report.page.tables import Row, Table, percent, reach_of, share_of

FAR = 50  # steps, about a window of training
VANISHED, EXPLODED = 1e-3, 2.0  # what is left of a gradient after FAR steps
COPIED, COPIED_MORE = 1.5, 10  # a copy is no chance if it is so many times real text's and more

CAPTION = (
    "What the models came to on text that none has seen. *: nearer to real text than another, by "
    "more than twice what chance does. Recited: the longest run of characters that stands in the "
    f"training text is over {COPIED:g} times as long as real text's, and {COPIED_MORE} more. A "
    f"gradient has vanished (exploded) where less than {VANISHED:g} (more than {EXPLODED:g}) of it "
    f"is left after {FAR} steps."
)
SHARES: dict[str, Callable[[TextMeasures], Share | None]] = {
    "words that exist": lambda texts: texts.words,
    "four-word runs repeated": lambda texts: texts.repeats,
    "quotation marks and brackets closed": lambda texts: texts.closed,
}


def verdict(measurements: Measurements) -> Table:
    """Lay the models side by side, beside real text where that can be measured, too."""
    models, real = measurements.models, measurements.reference
    rows = [
        ["loss, nats a character", *(f"{model.loss:.3f}" for model in models), ""],
        ["loss, bits a character", *(f"{m.loss / math.log(2):.3f}" for m in models), ""],
        ["behind the best, nats", *_behind(measurements), ""],
        ["loss on text it was trained on", *(f"{m.training_loss:.3f}" for m in models), ""],
        ["unseen less training text, nats", *(f"{_gap(model):+.3f}" for model in models), ""],
        *(_texts(measurements, name) for name in SHARES),
        ["longest copy, characters", *(_copy(m.plain, real) for m in models), str(len(real.copy))],
        ["memory, characters", *(reach_of(model.memory.length) for model in models), ""],
    ]
    if any(run_away(model.nats).any() for model in models):
        rows.insert(3, ["stretches where its state ran away", *map(_astray, models), ""])
    for name, of in TRAINING.items():
        rows.append([name, *map(of, models), ""])
    header = ["", *(model.subject.label for model in models), "real text"]
    return Table(caption=CAPTION, header=header, rows=rows)


def _behind(measurements: Measurements) -> Row:
    """Tell by how much each model's loss is above the best one whose state never ran away."""
    models = measurements.models
    calm = [i for i, model in enumerate(models) if not run_away(model.nats).any()]
    best = min(calm or range(len(models)), key=lambda i: models[i].loss)
    cells = []
    for i in range(len(models)):
        behind = measurements.difference(best, i)
        chance = "" if behind.is_measurable else ", within chance"
        cells.append("best" if i == best else f"{behind.value:.3f} ± {behind.error:.3f}{chance}")
    return cells


def _astray(model: Measured) -> str:
    astray = run_away(model.nats)
    without = f" ({_calm_loss(model):.3f} nats without)" if astray.any() else ""
    return f"{astray.sum()}{without}"


def _calm_loss(model: Measured) -> float:
    """Loss where the state did not run away; all of the loss where it did everywhere."""
    return float(model.nats[~run_away(model.nats)].mean())


def _gap(model: Measured) -> float:
    """How much worse a model is on unseen text, where its state is at home there."""
    return _calm_loss(model) - model.training_loss


def _texts(measurements: Measurements, name: str) -> Row:
    real = SHARES[name](measurements.reference)
    shares = [SHARES[name](model.plain) for model in measurements.models]
    return [name, *(share_of(s) + _mark(s, shares, real) for s in shares), share_of(real)]


def _mark(own: Share | None, shares: list[Share | None], real: Share | None) -> str:
    """Mark a share that is measurably nearer to real text's than another."""

    def nearer(than: Share | None) -> bool:
        if own is None or than is None or real is None:
            return False
        return differ(own, than) and abs(own.value - real.value) < abs(than.value - real.value)

    return " *" if any(map(nearer, shares)) else ""


def _copy(texts: TextMeasures, real: TextMeasures) -> str:
    recited = len(texts.copy) > COPIED * len(real.copy) + COPIED_MORE
    return f"{len(texts.copy)}{', recited' if recited else ''}"


def _risen(model: Measured) -> str:
    losses = model.subject.course.validation_loss
    return f"{losses[-1] - losses.min():+.3f}"


def _gradient(model: Measured) -> str:
    median, high = np.percentile(model.subject.course.gradient_norm, [50, 95])
    return f"{median:.2f}, {high:.2f}"


def _decay(by_tensor: Norms) -> str:
    """Tell by what a step back multiplies the gradient through each tensor of the state."""
    factors = {name: _factor(decay_per_step(norms)) for name, norms in by_tensor.items()}
    if len(factors) == 1:
        return next(iter(factors.values()))
    return ", ".join(f"{name} {factor}" for name, factor in factors.items())


def _factor(factor: float | None) -> str:
    return "0" if factor is None else f"{factor:.3f}"


def _left(model: Measured) -> str:
    """Tell what is left of a gradient after FAR steps, through the tensor that keeps most."""
    factors = filter(None, (decay_per_step(norms) for norms in model.after.values()))
    left = max(factors, default=0.0) ** FAR
    fate = ", exploded" if left > EXPLODED else ", vanished" if left < VANISHED else ""
    return f"{left:.2g}{fate}"


TRAINING: dict[str, Callable[[Measured], str]] = {
    "gradient, factor a step back, untrained": lambda model: _decay(model.before),
    "gradient, factor a step back, trained": lambda model: _decay(model.after),
    f"left of it after {FAR} steps": _left,
    "norm of the updates' gradients, median, 95 %": _gradient,
    "updates whose gradient was cut": lambda model: percent(model.subject.course.clipped),
    "loss, median step between updates, nats": lambda m: f"{m.subject.course.roughness:.3f}",
    "best validation after, of its time": lambda model: percent(model.subject.course.best_at),
    "validation loss risen since, nats": _risen,
}
