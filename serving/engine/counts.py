"""Counts that one thread keeps and another reads: what the page for Prometheus is made of.

Nothing here is locked. Each tally has one writer; who reads it while it is being written may miss
the last value, and sees it the next time.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

_RUN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
_WAIT_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_TEXT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_GAP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_STEPS = (1, 2, 4, 8, 16, 24, 32, 48, 64)
_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


class Tally:
    """How often values fell between bounds, and their sum.

    Args:
        bounds: upper ones, inclusive, rising; one more bucket holds what is above them all.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Take in a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def merged(tallies: Iterable[Tally]) -> Tally:
    """Add up tallies of the same bounds; one or more."""
    first, *others = tallies
    result = Tally(first.bounds)
    for tally in (first, *others):
        result.counts = [a + b for a, b in zip(result.counts, tally.counts, strict=True)]
        result.total += tally.total
    return result


class WorkerCounts:
    """What one worker did; its own thread writes it.

    Attributes:
        symbols_read: of prompts and scored texts, by the model; not those of a cached prefix.
        symbols_written: by the model, those behind a stop string included.
        rows: of each loop run: how full the batch was.
        steps: of each loop run.
        run_seconds: of each loop run.
        queue_seconds: from a request's arrival to its first slot.
        prefill_seconds: from there to its first symbol, or to a score's end.
        first_seconds: from its arrival to its first symbol.
        decode_seconds: from its first symbol to its good end.
        gap_seconds: between two chunks of a stream; a reader that stalls is in there.
    """

    def __init__(self) -> None:
        self.symbols_read = 0
        self.symbols_written = 0
        self.rows = Tally(_ROWS)
        self.steps = Tally(_STEPS)
        self.run_seconds = Tally(_RUN_SECONDS)
        self.queue_seconds = Tally(_WAIT_SECONDS)
        self.prefill_seconds = Tally(_WAIT_SECONDS)
        self.first_seconds = Tally(_WAIT_SECONDS)
        self.decode_seconds = Tally(_TEXT_SECONDS)
        self.gap_seconds = Tally(_GAP_SECONDS)


@dataclass(slots=True)
class Times:
    """When things happened to a request, by time.monotonic(); None for not yet.

    Attributes:
        came: it was queued.
        began: it had a slot for the first time.
        first: its first chunk was complete.
        last: its last chunk was.
    """

    came: float
    began: float | None = None
    first: float | None = None
    last: float | None = None

    def note_chunk(
        self,
        counts: WorkerCounts,
        now: float,
        *,
        is_text: bool,
        is_streamed: bool,
        is_last: bool,
    ) -> None:
        """Count a chunk that is complete now.

        Args:
            counts: of the worker that wrote it.
            now: time.monotonic().
            is_text: whether it belongs to a text, not to a score.
            is_streamed: whether it goes out as soon as it is complete.
            is_last: whether nothing comes after it.
        """
        assert self.began is not None, "a chunk comes from a slot"
        if self.last is not None and is_streamed:
            counts.gap_seconds.add(now - self.last)
        if self.first is None and (is_text or is_last):
            self.first = now
            counts.prefill_seconds.add(now - self.began)
            if is_text:
                counts.first_seconds.add(now - self.came)
        if is_last and is_text and self.first is not None:
            counts.decode_seconds.add(now - self.first)
        self.last = now
