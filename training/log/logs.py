"""Several logs of a training as one."""

from typing import Any, Protocol

from training.log.metrics import Metrics


class Log(Protocol):
    """What writes down how a training goes; see MetricsLog."""

    def update(self, update: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Log one update."""

    def milestone(self, metrics: Metrics, sample: str) -> None:
        """Log a milestone and its sample; the sample may be empty."""

    def rewind(self, update: int, **rollback: Any) -> None:
        """Forget what came after an update."""

    def give_up(self, update: int) -> None:
        """Log that the training ends because it exploded too often."""

    def flush(self) -> None:
        """Bring everything to disk."""

    def close(self) -> None:
        """Close the log."""


class Logs:
    """Passes everything on to each of some logs; with none, it is silent."""

    def __init__(self, *logs: Log) -> None:
        self._logs = logs

    def update(self, update: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Log one update."""
        for log in self._logs:
            log.update(update, loss, rate, gradient_norm)

    def milestone(self, metrics: Metrics, sample: str) -> None:
        """Log a milestone and its sample."""
        for log in self._logs:
            log.milestone(metrics, sample)

    def rewind(self, update: int, **rollback: Any) -> None:
        """Forget what came after an update."""
        for log in self._logs:
            log.rewind(update, **rollback)

    def give_up(self, update: int) -> None:
        """Log that the training ends because it exploded too often."""
        for log in self._logs:
            log.give_up(update)

    def flush(self) -> None:
        """Bring everything to disk."""
        for log in self._logs:
            log.flush()

    def close(self) -> None:
        """Close the logs."""
        for log in self._logs:
            log.close()
