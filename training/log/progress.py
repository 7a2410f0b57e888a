"""What a person sees of a training while it runs."""

import math
import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from training.log.metrics import Metrics

SECONDS_BETWEEN_SAMPLES = 8.0
SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """Reports a training: a live bar on a terminal, plain lines elsewhere.

    Args:
        console: where to write.
        clock: seconds, monotonic.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._next_sample = self._next_line = -math.inf
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._status = ""

    def __enter__(self) -> "Reporter":
        if self.console.is_terminal:
            columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with suppress(OSError):  # a closed terminal
                self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line; nothing more where that fails: a closed terminal ends no training."""
        try:
            say(self.console, text)
        except (OSError, SystemExit):  # rich would end the process of a pipe that nobody reads
            self.console.quiet = True

    def update(self, done: float, loss: float, rate: float, speed: float, left: float) -> None:
        """Show how the training stands.

        Args:
            done: progress in [0, 1].
            loss: training loss, nats per symbol.
            rate: learning rate.
            speed: symbols a second.
            left: seconds to go.
        """
        text = (
            f"{done:4.0%}  loss {loss:.3f}{self._status}  rate {rate:.1e}  "
            f"{speed:,.0f} symbols/s  {duration(left)} left"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text)
        elif self._clock() >= self._next_line:
            self._next_line = self._clock() + SECONDS_BETWEEN_LINES
            self.say(text)

    def validated(self, loss: float | None) -> None:
        """Show a validation loss beside the training's from now on; None if there is none."""
        self._status = "" if loss is None else f"  validation {loss:.3f}"

    def milestone(self, metrics: Metrics, sample: str, is_best: bool, of_a_unit: str = "") -> None:
        """Show the figures of a milestone, and its sample where the last one is old enough."""
        validation = ""
        if metrics.validation_loss is not None:
            validation = f"  validation {metrics.validation_loss:.4f}"
            self.validated(metrics.validation_loss)
        self.say(
            f"epoch {metrics.epoch:3d}  update {metrics.update:6d}  "
            f"training {metrics.training_loss:.4f}{validation}  "
            f"{metrics.bits_per_character:.3f} bits per character{of_a_unit}  "
            f"{duration(metrics.seconds)}{'  best' if is_best else ''}"
        )
        if sample and self._clock() >= self._next_sample:
            self._next_sample = self._clock() + SECONDS_BETWEEN_SAMPLES
            self.say("\n" + "\n".join(f"    {line}" for line in sample.splitlines()) + "\n")


def say(console: Console, text: str) -> None:
    """Print a line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a number of seconds for people: 7s, 3m05s, 2h10m."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
