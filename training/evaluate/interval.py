"""How sure a figure is: a bootstrap over blocks of the text."""

import numpy as np

from training.evaluate.reading import Losses

CONFIDENCE = 0.95
BLOCK = 2000  # symbols; farther apart than that, losses no longer tell of each other
BLOCKS_AT_LEAST = 30  # a shorter text has shorter blocks
RESAMPLES = 2000
SEED = 25


def block_length(symbols: int) -> int:
    """Return how many symbols of a text are drawn together."""
    return max(1, min(BLOCK, symbols // BLOCKS_AT_LEAST))


def block_interval(losses: Losses) -> tuple[float, float]:
    """Bootstrap the mean over blocks that do not overlap and cover the text (Carlstein 1986).

    The model is taken as it is: another seed of its training is not among what varies.

    Args:
        losses: of a text in its order, shape (symbols,), at least 1.

    Returns:
        Where the mean lies in 95 of 100 texts of the same kind, in nats per symbol: the percentile
        interval, the same for the same losses.
    """
    blocks = np.array_split(losses, len(losses) // block_length(len(losses)))
    sums, lengths = np.array([block.sum() for block in blocks]), np.array(list(map(len, blocks)))
    drawn = np.random.default_rng(SEED).integers(len(blocks), size=(RESAMPLES, len(blocks)))
    means = sums[drawn].sum(1) / lengths[drawn].sum(1)  # (RESAMPLES,)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
