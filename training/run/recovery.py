"""What to do when a training explodes: go back, halve the rate, and give up after a few times."""

import math
from dataclasses import replace

from training.run.state import Progress, TrainingState
from unroll.errors import ExplosionError

ROLLBACKS_AT_MOST = 3
KEEP_EVERY = 100  # updates; a copy of weights and moments costs about as much as one update


class Recovery:
    """Keeps the last good state of a training.

    Args:
        vocabulary_size: V; a loss of three times ln V, that of a uniform guess, is an explosion.
        state: the state to start from.

    Attributes:
        good: the last good state.
    """

    def __init__(self, vocabulary_size: int, state: TrainingState) -> None:
        self.loss_at_most = 3 * math.log(vocabulary_size)
        self.good = state

    def keep(self, state: TrainingState) -> None:
        """Remember a state that is good."""
        self.good = state

    def exploded(self, loss: float, gradient_norm: float) -> bool:
        """Whether an update with this loss and gradient would do damage."""
        return not (math.isfinite(gradient_norm) and loss <= self.loss_at_most)

    def roll_back(self, progress: Progress) -> TrainingState:
        """Return the last good state with half the learning rate.

        Args:
            progress: where the explosion happened.

        Raises:
            ExplosionError: it has happened too often.
        """
        if progress.rollbacks >= ROLLBACKS_AT_MOST:
            raise ExplosionError(
                f"update {progress.update}: the training exploded again after "
                f"{progress.rollbacks} times going back and halving the rate. Lower "
                "--learning-rate, shorten --window, clip gradients (--gradient-clip 1) or take a "
                "gated cell (--cell gru or lstm); rnn_relu carries longer sequences than rnn_tanh. "
                "last.safetensors holds the last good state; earlier checkpoints are kept"
            )
        return replace(
            self.good,
            progress=replace(
                self.good.progress,
                rate_scale=progress.rate_scale / 2,
                rollbacks=progress.rollbacks + 1,
                elapsed=progress.elapsed,
            ),
        )
