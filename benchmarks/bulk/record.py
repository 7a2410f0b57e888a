"""What the benchmark of many short texts found, and how it compares with what was aimed at.

bulk-cpu-MODEL.json     format version, machine, settings, every sample
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.tables import Row, Target, at_least
from unroll.record import Record

ALONE = "alone"
ROWS = 64
STEADY = 1000  # symbols of a text
AIMS = {"here, generate": 0.75, "here, score": 0.75, "call, generate": 0.6, "call, score": 0.6}


@dataclass(frozen=True, kw_only=True)
class BulkSample:
    """One measurement.

    Attributes:
        symbols_per_second: read or generated, those of stop strings included.
        texts_per_second: that ended.
        engine_microseconds: processor time of the engine's thread, a symbol.
        other_microseconds: processor time of all other threads, of client and server, a symbol.
        wasted: share of rows' steps that gave nothing; None where it was not looked up.
    """

    symbols_per_second: float
    texts_per_second: float
    engine_microseconds: float
    other_microseconds: float
    wasted: float | None = None


@dataclass(frozen=True, kw_only=True)
class BulkRecord(Record):
    """One run.

    Attributes:
        model: CELL-HIDDENxLAYERS.
        mean_symbols: of the generated texts.
        ways: samples of each repeat by name; the first is the engine alone, 64 rows of long texts.
    """

    model: str
    mean_symbols: float
    ways: dict[str, list[BulkSample]]

    def median(self, way: str, figure: str) -> float:
        """Median of one figure of a way's samples."""
        return statistics.median(float(getattr(sample, figure)) for sample in self.ways[way])

    def engine_ratio(self, way: str) -> float:
        """The engine's processor time a symbol, alone over a way's: what other work cannot move."""
        return self.median(ALONE, "engine_microseconds") / self.median(way, "engine_microseconds")

    def ratio(self, way: str) -> float:
        """A way's rate over that of the engine alone, median of the repeats' ratios."""
        pairs = zip(self.ways[way], self.ways[ALONE], strict=True)
        return statistics.median(
            sample.symbols_per_second / alone.symbols_per_second for sample, alone in pairs
        )


def file_name(model: str, kernels: str = "onnx") -> str:
    """Name of the file of one model by one kind of kernels."""
    return f"bulk-{'cpu' if kernels == 'onnx' else kernels}-{model}.json"


def bulk_rows(record: BulkRecord) -> list[Row]:
    """Lay out the ways: the header, then a row each."""
    header = "way,symbols/s,texts/s,way / alone,engine us,other us,engine alone / way,wasted"
    rows = [header.split(",")]
    for name, samples in record.ways.items():
        wasted = [sample.wasted for sample in samples if sample.wasted is not None]
        rows.append(
            [
                name,
                f"{record.median(name, 'symbols_per_second'):,.0f}",
                f"{record.median(name, 'texts_per_second'):,.0f}",
                f"{record.ratio(name):.3f}",
                f"{record.median(name, 'engine_microseconds'):.2f}",
                f"{record.median(name, 'other_microseconds'):.2f}",
                f"{record.engine_ratio(name):.3f}",
                f"{statistics.median(wasted):.2f}" if wasted else "",
            ]
        )
    return rows


def targets(record: BulkRecord) -> Iterator[Target]:
    """Compare the ways with what was aimed at, by whichever ratio is lower."""
    for name, aim in AIMS.items():
        ratio = min(record.ratio(name), record.engine_ratio(name))
        yield at_least(f"{name}, the lower ratio", aim, ratio, f"{ratio:.3f}")
