"""A training as TensorBoard shows it: curves, and samples as text.

The package comes with the extra `tensorboard` and is imported only where the setting asks for it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.log.metrics import Metrics
from unroll.errors import MissingExtraError, lacking


def require_tensorboard() -> None:
    """Make sure that TensorBoard's package is there.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(lacking("--tensorboard", "tensorboard", "tensorboard")) from error


class TensorBoardLog:
    """An event file in a run's folder, which `tensorboard --logdir runs` finds.

    Args:
        folder: the run's.
        symbols: symbols of an update, for the speed.
        clock: seconds, monotonic.
    """

    def __init__(
        self, folder: Path, symbols: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._symbols, self._clock = folder, symbols, clock
        self._open(after=None)

    def _open(self, after: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if after is None else after + 1  # readers forget what stands there and later
        self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        self._seen = self._clock()

    def update(self, update: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Log one update, with the symbols a second since the last one."""
        before, self._seen = self._seen, self._clock()
        speed = self._symbols / max(self._seen - before, 1e-9)
        self._scalars(
            update,
            {
                "training/loss": loss,
                "training/rate": rate,
                "training/gradient_norm": gradient_norm,
                "training/symbols_per_second": speed,
            },
        )

    def milestone(self, metrics: Metrics, sample: str) -> None:
        """Log the validation's loss and a sample, on disk at once."""
        if metrics.validation_loss is not None:
            self._scalars(metrics.update, {"validation/loss": metrics.validation_loss})
        if sample:
            text = "\n".join(f"    {line}" for line in sample.splitlines())  # Markdown's verbatim
            self._writer.add_text("sample", text, metrics.update)
        self.flush()
        self._seen = self._clock()

    def rewind(self, update: int, **rollback: Any) -> None:
        """Have readers forget what was logged after an update, because it will be done again."""
        self.close()
        self._open(after=update)

    def give_up(self, update: int) -> None:
        """Log that the training ends because it exploded too often."""
        self._writer.add_text("given up", "exploded too often", update)

    def flush(self) -> None:
        """Bring everything to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _scalars(self, update: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, update)
