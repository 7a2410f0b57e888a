"""What a load has measured."""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Quantiles of durations, in seconds.

    Attributes:
        count: how many there were, 1 or more.
        p50: the median.
        p90: nine of ten are no longer.
        p99: 99 of 100 are no longer.
        longest: of all.
    """

    count: int
    p50: float
    p90: float
    p99: float
    longest: float

    @classmethod
    def of(cls, *parts: Iterable[float]) -> Self | None:
        """Put durations together; None if there are none."""
        seconds = np.concatenate([np.fromiter(part, np.float64) for part in parts])
        if not len(seconds):
            return None
        found = np.quantile(seconds, (0.5, 0.9, 0.99, 1.0), method="inverted_cdf")
        p50, p90, p99, longest = map(float, found)
        return cls(count=len(seconds), p50=p50, p90=p90, p99=p99, longest=longest)

    def __str__(self) -> str:
        return " / ".join(f"{part * 1e3:,.1f}" for part in (self.p50, self.p90, self.p99))


def _durations() -> "array[float]":
    return array("d")


@dataclass(kw_only=True)
class Tally:
    """Counts and durations of some clients, within the time that is measured.

    Attributes:
        opens: when that time begins, as `time.perf_counter` has it, which all processes share.
        closes: when it ends.
        symbols: received, by client. Of a text that came as a whole, the part counts that the
            time it took has in common with the time that is measured.
        requests: answered in full, of all clients.
        errors: failed requests by the status's code.
        first: seconds from a request to its first character.
        gaps: seconds between two messages of a stream.
        whole: seconds from a request to the end of its answer.
        busy_seconds: processor time of the generator.
        is_cut_short: whether it ended before its time.
    """

    opens: float = float("inf")
    closes: float = float("inf")
    symbols: list[float] = field(default_factory=list)
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first: "array[float]" = field(default_factory=_durations)
    gaps: "array[float]" = field(default_factory=_durations)
    whole: "array[float]" = field(default_factory=_durations)
    busy_seconds: float = 0.0
    is_cut_short: bool = False

    @property
    def seconds(self) -> float:
        """The time that is measured."""
        return self.closes - self.opens

    @property
    def symbols_per_second(self) -> float:
        """Of all clients."""
        return sum(self.symbols) / self.seconds

    @property
    def client_rates(self) -> tuple[float, float, float]:
        """Symbols a second of a client: least, median, most."""
        rates = [symbols / self.seconds for symbols in self.symbols]
        return min(rates), median(rates), max(rates)

    @classmethod
    def merged(cls, parts: Iterable["Tally"]) -> "Tally":
        """Put together the tallies of processes that ran at the same time."""
        first, *others = parts
        for part in others:
            for name in ("symbols", "first", "gaps", "whole"):
                getattr(first, name).extend(getattr(part, name))
            first.is_cut_short |= part.is_cut_short
            first.requests += part.requests
            first.errors += part.errors
            first.busy_seconds += part.busy_seconds
        return first
