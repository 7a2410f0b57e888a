"""Single hidden units that track a trait of the text: found on one stretch, scored on another."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from report.measures.traits import Trait
from training.model.model import CharRNN

Floats = NDArray[np.float64]
RARE = 50  # symbols on either side of a trait; fewer are too few to choose or to judge by


@torch.no_grad()
def activations(model: CharRNN, ids: Tensor, *, streams: int, warm_up: int) -> "Activations":
    """Record all units after each symbol of a text.

    Args:
        model: in evaluation mode.
        ids: the text, int64, (symbols,); what is left over at its end is not read.
        streams: stretches N that are read side by side.
        warm_up: first symbols of each stretch that are read but not recorded, since the state is
            zero before them.
    """
    T = len(ids) // streams
    tokens = ids[: streams * T].view(streams, T).t()  # (T, N)
    state, rows = model.zero_state(streams), []
    for row in tokens:
        _, state = model(row[None], state)
        rows.append(torch.cat([t.transpose(0, 1).flatten(1) for t in state.values()], 1))
    values = torch.stack(rows[warm_up:], 1).flatten(0, 1)  # (N * (T - warm_up), units)
    places = torch.arange(streams * T).view(streams, T)[:, warm_up:].flatten()
    L, M = model.settings.layers, model.settings.members
    names = [
        f"{name}, {f'network {layer // L + 1}, ' * (M > 1)}layer {layer % L + 1}, unit {unit}"
        for name, tensor in state.items()
        for layer in range(tensor.shape[0])
        for unit in range(tensor.shape[2])
    ]
    return Activations(values=values.numpy(), places=places.numpy(), names=names)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The units of a model over a text.

    Attributes:
        values: (places, units).
        places: the symbol that each row came after, (places,).
        names: of the units: tensor of the state, network of several, layer, number.
    """

    values: NDArray[np.float32]
    places: NDArray[np.int64]
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The unit that tracks a trait best, chosen on one stretch of text.

    Attributes:
        trait: of which the score is R^2 if it is a number, else AUC.
        unit: its index.
        name: of the unit.
        chosen: score on the stretch that it was chosen on.
        score: score on the other stretch.
        sign: 1 where it rises with the trait, -1 where it falls.
    """

    trait: Trait
    unit: int
    name: str
    chosen: float
    score: float
    sign: int

    @property
    def measure(self) -> str:
        """What the score is."""
        return "R²" if self.trait.is_number else "AUC"


def find_unit(
    trait: Trait, choose: Activations, choose_text: str, judge: Activations, judge_text: str
) -> Found | None:
    """Choose the best unit on one stretch and score it on another.

    A trait that holds or not is scored by AUC: how often the unit is higher (or lower, whichever
    it was on the first stretch) where it holds than where it does not. A number is scored by R^2
    of the straight line from the unit to it that fits the first stretch best; on the other stretch
    that can be below 0.

    Args:
        trait: what to track.
        choose: a model over the first stretch.
        choose_text: that stretch.
        judge: the same model over the other stretch.
        judge_text: that stretch.

    Returns:
        The unit; None where the trait is too rare in one of them.
    """
    values, units = _kept(trait, choose, choose_text)
    other_values, other_units = _kept(trait, judge, judge_text)
    if not (_is_frequent(trait, values) and _is_frequent(trait, other_values)):
        return None
    if trait.is_number:
        slopes, offsets, scores = _lines(values, units)
        unit = int(scores.argmax())
        predicted = offsets[unit] + slopes[unit] * other_units[:, unit]
        score = _r_squared(other_values, predicted)
        chosen, sign = float(scores[unit]), 1 if slopes[unit] >= 0 else -1
    else:
        areas = auc(values > 0, units)
        unit = int(np.abs(areas - 0.5).argmax())
        sign = 1 if areas[unit] >= 0.5 else -1
        chosen = float(areas[unit] if sign > 0 else 1 - areas[unit])
        area = float(auc(other_values > 0, other_units[:, [unit]])[0])
        score = area if sign > 0 else 1 - area
    return Found(
        trait=trait,
        unit=unit,
        name=choose.names[unit],
        chosen=chosen,
        score=score,
        sign=sign,
    )


def _kept(trait: Trait, model: Activations, text: str) -> tuple[Floats, Floats]:
    values = trait.of(text)[model.places]
    has_value = ~np.isnan(values)
    return values[has_value], model.values[has_value].astype(np.float64)


def _is_frequent(trait: Trait, values: Floats) -> bool:
    if trait.is_number:
        return len(values) >= RARE and bool(values.std() > 0)
    return bool(min((values > 0).sum(), (values <= 0).sum()) >= RARE)


def auc(holds: NDArray[np.bool_], units: Floats) -> Floats:
    """Return for each unit how often it is higher where something holds; equal counts half.

    Args:
        holds: (places,), with both values.
        units: (places, units).
    """
    positive, negative = int(holds.sum()), int((~holds).sum())
    ranks = np.empty_like(units)
    for column, unit in enumerate(units.T):
        _, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
        ranks[:, column] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # of ties their mean
    sums = ranks[holds].sum(0) - positive * (positive + 1) / 2
    areas: Floats = sums / (positive * negative)
    return areas


def _lines(values: Floats, units: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a straight line from each unit to the values: slopes, offsets, R^2, (units,) each."""
    centred = units - units.mean(0)
    squares = (centred**2).sum(0)
    products = centred.T @ (values - values.mean())
    slopes = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
    offsets = values.mean() - slopes * units.mean(0)
    scores = slopes * products / ((values - values.mean()) ** 2).sum()
    return slopes, offsets, scores


def _r_squared(values: Floats, predicted: Floats) -> float:
    """Return the share of the values' variance that is predicted; 0 where the mean does better."""
    residual = ((values - predicted) ** 2).sum()
    return max(0.0, float(1 - residual / ((values - values.mean()) ** 2).sum()))
