"""What a load has shown so far."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Self

from benchmarks.load.histogram import Histogram


@dataclass(kw_only=True)
class Tally:
    """Counts and durations of some clients, within the time that is measured.

    Attributes:
        seconds: how much of that time has passed.
        symbols: received, by client. Of a text that came as a whole, the part counts that the
            time it took has in common with the time that is measured.
        requests: answered in full, of all clients.
        errors: failed requests by the status's code.
        first: seconds from a request to its first character.
        gaps: seconds between two messages of a stream.
        whole: seconds from a request to the end of its answer.
        busy_seconds: processor time of the generator.
    """

    seconds: float = 0.0
    symbols: list[float] = field(default_factory=list)
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first: Histogram = field(default_factory=Histogram)
    gaps: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)
    busy_seconds: float = 0.0

    @property
    def symbols_per_second(self) -> float:
        """Of all clients."""
        return sum(self.symbols) / self.seconds if self.seconds else 0.0

    @property
    def requests_per_second(self) -> float:
        """Of all clients."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def client_rates(self) -> tuple[float, float, float]:
        """Symbols a second of a client: least, median, most."""
        if not self.seconds or not self.symbols:
            return 0.0, 0.0, 0.0
        rates = [symbols / self.seconds for symbols in self.symbols]
        return min(rates), median(rates), max(rates)

    @classmethod
    def merged(cls, parts: Sequence["Tally"]) -> Self:
        """Put together the tallies of several processes that ran at the same time."""
        return cls(
            seconds=max((part.seconds for part in parts), default=0.0),
            symbols=[symbols for part in parts for symbols in part.symbols],
            requests=sum(part.requests for part in parts),
            errors=_sum(part.errors for part in parts),
            first=Histogram.merged(part.first for part in parts),
            gaps=Histogram.merged(part.gaps for part in parts),
            whole=Histogram.merged(part.whole for part in parts),
            busy_seconds=sum(part.busy_seconds for part in parts),
        )


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    whole: Counter[str] = Counter()
    for counter in counters:
        whole += counter
    return whole
