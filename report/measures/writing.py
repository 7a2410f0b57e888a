"""Texts that a model writes for the report."""

from collections.abc import Sequence

import numpy as np

from serving.runtime.sampling import uniforms
from training.model.sample import sample
from training.run.checkpoint import Checkpoint


def write(
    checkpoint: Checkpoint,
    prompt: str | None,
    symbols: int,
    temperatures: Sequence[float],
    seed: int,
) -> list[str]:
    """Continue a prompt once for every temperature; row i draws with seed + i, as a server does.

    Args:
        checkpoint: of the model.
        prompt: symbols of the vocabulary; by default the start symbol alone.
        symbols: to draw for each text.
        temperatures: above 0, one for each text.
        seed: the same seed gives the same texts.

    Returns:
        The texts without the prompt.
    """
    rows = [uniforms(seed + row, 0, symbols) for row in range(len(temperatures))]
    return sample(
        checkpoint.model(),
        checkpoint.vocabulary,
        prompt=prompt or checkpoint.vocabulary.start_symbol,
        uniforms=np.stack(rows, axis=1),
        temperatures=temperatures,
    )
