"""What a training measures: the figures of a milestone, and the logs of all of them."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The figures of a milestone; losses are means in nats per symbol."""

    update: int
    """Updates done."""

    epoch: int
    """The epoch these updates belong to, from 0."""

    training_loss: float
    """Mean over the updates since the last milestone."""

    validation_loss: float | None
    """None where no text is kept for validation."""

    seconds: float
    """Duration of the training so far."""

    @property
    def loss(self) -> float:
        """The loss that decides which checkpoint is the best."""
        return self.training_loss if self.validation_loss is None else self.validation_loss

    @property
    def bits_per_character(self) -> float:
        """The same in bits."""
        return self.loss / math.log(2)


class Log(Protocol):
    """What writes down how a training goes."""

    def update(self, update: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Log one update: its loss in nats per symbol, its rate, its gradient's norm."""

    def milestone(self, metrics: Metrics, sample: str) -> None:
        """Log a milestone and its sample, which may be empty; on disk at once."""

    def rewind(self, update: int, **rollback: Any) -> None:
        """Forget what was logged after an update, because it will be done again.

        Args:
            update: the last update to keep.
            **rollback: what to log about it, if anything.
        """

    def give_up(self, update: int) -> None:
        """Log that the training ends because it exploded too often."""

    def flush(self) -> None:
        """Write everything to disk."""

    def close(self) -> None:
        """Close the log."""


class Logs:
    """Passes everything on to each of some logs; with none, it is silent."""

    def __init__(self, *logs: Log) -> None:
        self.update = _all(log.update for log in logs)
        self.milestone = _all(log.milestone for log in logs)
        self.rewind = _all(log.rewind for log in logs)
        self.give_up = _all(log.give_up for log in logs)
        self.flush = _all(log.flush for log in logs)
        self.close = _all(log.close for log in logs)


def _all(methods: Iterable[Callable[P, None]]) -> Callable[P, None]:
    called = list(methods)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        for method in called:
            method(*args, **kwargs)

    return call


class MetricsLog:
    """A file of JSON lines, one for each `update`, `milestone` and `rollback`.

    A last one, `given_up`, says that the training exploded too often.

    Args:
        path: is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def update(self, update: int, loss: float, rate: float, gradient_norm: float) -> None:
        """See Log."""
        self._write("update", update=update, loss=loss, rate=rate, gradient_norm=gradient_norm)

    def milestone(self, metrics: Metrics, sample: str) -> None:
        """See Log; the sample lies in a file of its own."""
        self._write("milestone", **asdict(metrics), bits_per_character=metrics.bits_per_character)
        self._file.flush()

    def rewind(self, update: int, **rollback: Any) -> None:
        """See Log."""
        self._file.close()
        kept = [record for record in read_metrics(self.path) if record["update"] <= update]
        draft = self.path.with_name(f".{self.path.name}.part")
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in kept)
        draft.replace(self.path)  # whole, whenever the process is killed
        self._file = self.path.open("a", encoding="utf-8")
        if rollback:
            self._write("rollback", update=update, **rollback)

    def give_up(self, update: int) -> None:
        """See Log."""
        self._write("given_up", update=update)

    def flush(self) -> None:
        """See Log."""
        self._file.flush()

    def close(self) -> None:
        """See Log."""
        self._file.close()

    def _write(self, event: str, **values: Any) -> None:
        self._file.write(json.dumps({"event": event, **values}) + "\n")


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log; a last line that was cut off is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
