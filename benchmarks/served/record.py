"""What a run of the served benchmark measured: one JSON file a model.

served-cpu-MODEL.json   format version, machine, settings, every sample; durations as quantiles
"""

import statistics
from dataclasses import dataclass

from unroll.client.load.settings import Mode
from unroll.client.load.tally import Durations
from unroll.record import Record


@dataclass(frozen=True, kw_only=True)
class ServedSample:
    """One measurement of the server."""

    symbols_per_second: float  # that the clients received
    least_over_median: float  # the slowest client's rate over the median client's
    engine_microseconds: float  # processor time of the engine's thread, a symbol
    other_microseconds: float  # likewise of the server's other threads
    client_microseconds: float  # likewise of the clients
    resident_bytes: list[int]  # the server's memory, a few times a second


@dataclass(frozen=True, kw_only=True)
class Served:
    """The measurements of the server with one number of clients in one mode."""

    samples: list[ServedSample]  # of each repeat
    first: Durations | None  # from a request to its first character, of all repeats
    gaps: Durations | None  # between two messages of a stream
    requests: Durations | None  # from a request to the end of its answer

    def median(self, name: str) -> float:
        """Median of the repeats of one figure of a ServedSample."""
        return statistics.median(float(getattr(sample, name)) for sample in self.samples)


@dataclass(frozen=True, kw_only=True)
class ServedPoint:
    """The measurements with one number of clients."""

    clients: int
    alone: list[float]  # symbols a second of the engine alone, of each repeat
    stream: Served  # to clients that stream
    unary: Served  # to clients that wait for whole texts

    def served(self, mode: Mode) -> Served:
        """The server's measurements in one mode."""
        return self.stream if mode is Mode.STREAM else self.unary

    def ratio(self, mode: Mode) -> float:
        """The served rate over that of the engine alone, median of the repeats' ratios."""
        pairs = zip(self.served(mode).samples, self.alone, strict=True)
        return statistics.median(sample.symbols_per_second / alone for sample, alone in pairs)

    @property
    def memory_growth(self) -> float:
        """The server's memory at the end of the last repeat over that at the end of the first."""
        ends = [sample.resident_bytes[-1] for sample in self.unary.samples]
        return ends[-1] / ends[0]


@dataclass(frozen=True, kw_only=True)
class OneCharacter:
    """Seconds of each call."""

    generate: list[float]  # of Generate for one character
    echo: list[float]  # of an echo of the same messages
    compute: list[float]  # of the same step in the decoder alone, by a thread that slept before

    @property
    def times_compute(self) -> float:
        """What Generate costs beyond an echo, in units of its compute (medians)."""
        generate, echo, compute = map(statistics.median, (self.generate, self.echo, self.compute))
        return (generate - echo) / compute


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Symbols a second of 64 rows, by the number of workers, of each repeat."""

    one: list[float]
    two: list[float]

    @property
    def factor(self) -> float:
        """Two workers' rate over one's, median of the repeats' ratios."""
        return statistics.median(two / one for one, two in zip(self.one, self.two, strict=True))


@dataclass(frozen=True, kw_only=True)
class ServedRecord(Record):
    """One run of one model; the points in the order in which they were measured."""

    model: str
    points: list[ServedPoint]
    one_character: OneCharacter
    workers: Scaling


def file_name(model: str, kernels: str = "onnx") -> str:
    """Name of the file of one model by one kind of kernels."""
    return f"served-{'cpu' if kernels == 'onnx' else kernels}-{model}.json"
