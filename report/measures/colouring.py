"""A text coloured by the units that track something of it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from report.material import PASSAGE, Texts
from report.measures.traits import TRAITS, Trait
from report.measures.units import Activations, Found, activations, find_unit
from report.subject import Subject
from training.run.checkpoint import Checkpoint

Floats = NDArray[np.float64]

STREAMS, STEPS = 16, 500  # of a stretch that units are chosen or judged on
WARM_UP = 100


@dataclass(frozen=True, kw_only=True)
class Coloured:
    """A passage and how one unit of each model goes through it.

    Attributes:
        text: the passage.
        holds: the trait after each symbol, NaN where it has none, (symbols,).
        found: the unit of each model.
        untrained: score of the best unit of each model before its training, found the same way.
        values: that unit after each symbol, in [-1, 1], high where the trait should be; for each
            model (symbols,).
    """

    text: str
    holds: Floats
    found: list[Found]
    untrained: list[float]
    values: list[Floats]


def colour(subjects: list[Subject], texts: Texts) -> tuple[list[Coloured], list[str]]:
    """Find the units and colour passages by them.

    Returns:
        A passage for each trait that the text has, and the traits that are too rare in it.
    """
    half = min(len(texts.held_out) // 2, STREAMS * STEPS)
    choose_text, judge_text = texts.held_out[:half], texts.held_out[-half:]
    warm_up = min(WARM_UP, half // STREAMS // 2)

    def over(text: str, checkpoint: Checkpoint) -> Activations:
        ids = torch.from_numpy(checkpoint.vocabulary.encode(text))
        return activations(checkpoint.model(), ids, streams=STREAMS, warm_up=warm_up)

    def find(trait: Trait, pairs: list[tuple[Activations, Activations]]) -> list[Found]:
        found = [find_unit(trait, c, choose_text, j, judge_text) for c, j in pairs]
        return [each for each in found if each is not None]

    both = [
        [(over(choose_text, each), over(judge_text, each)) for each in checkpoints]
        for checkpoints in (
            [subject.best for subject in subjects],
            [subject.untrained for subject in subjects],
        )
    ]
    judge = [judged for _, judged in both[0]]
    coloured, missing = [], []
    for trait in TRAITS:
        trained, untrained = (find(trait, pairs) for pairs in both)
        if not trained:
            missing.append(trait.name)
            continue
        start, stop = _varied(trait, judge[0], judge_text)
        coloured.append(
            Coloured(
                text="".join(judge_text[place] for place in judge[0].places[start:stop]),
                holds=trait.of(judge_text)[judge[0].places[start:stop]],
                found=trained,
                untrained=[each.score for each in untrained],
                values=[
                    _scaled(over.values[:, each.unit] * each.sign)[start:stop]
                    for over, each in zip(judge, trained, strict=True)
                ],
            )
        )
    return coloured, missing


def _varied(trait: Trait, over: Activations, text: str) -> tuple[int, int]:
    """Find the rows of a passage in which the trait changes most often."""
    per_stream = len(over.places) // STREAMS
    length = min(PASSAGE, per_stream)
    values = np.nan_to_num(trait.of(text)[over.places])
    starts = [
        stream * per_stream + offset
        for stream in range(STREAMS)
        for offset in range(0, per_stream - length + 1, 50)
    ]
    changes = [int(np.count_nonzero(np.diff(values[s : s + length]))) for s in starts]
    start = starts[int(np.argmax(changes))]
    return start, start + length


def _scaled(values: NDArray[np.float32]) -> Floats:
    """Bring a unit's values to [-1, 1]: all but the lowest and the highest twentieth inside."""
    low, high = np.percentile(values, [5, 95])
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-9)
    scaled: Floats = np.clip((values - middle) / half, -1, 1).astype(np.float64)
    return scaled
