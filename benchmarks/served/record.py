"""What a run of the served benchmark measured: one JSON file a model.

served-cpu-MODEL.json   format version, machine, settings, every sample; durations as quantiles
"""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.histogram import Histogram
from benchmarks.load.settings import Mode
from benchmarks.record_file import read_record, write_record
from benchmarks.served.calls import OneCharacter
from benchmarks.served.points import Point, ServedSample
from benchmarks.served.workers import Scaling
from unroll.errors import SettingsError

FORMAT_VERSION = 1


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


@dataclass(frozen=True, kw_only=True)
class Served:
    """The measurements of the server with one number of clients in one mode.

    Attributes:
        samples: of each repeat.
        first: from a request to its first character, of all repeats; None if there was none.
        gaps: between two messages of a stream, likewise.
        requests: from a request to the end of its answer, likewise.
    """

    samples: list[ServedSample]
    first: Durations | None
    gaps: Durations | None
    requests: Durations | None

    def median(self, name: str) -> float:
        """Median of the repeats of one figure of a ServedSample."""
        return statistics.median(float(getattr(sample, name)) for sample in self.samples)


@dataclass(frozen=True, kw_only=True)
class ServedPoint:
    """The measurements with one number of clients.

    Attributes:
        clients: how many.
        alone: symbols a second of the engine alone, of each repeat.
        stream: the server to clients that stream.
        unary: the server to clients that wait for whole texts.
    """

    clients: int
    alone: list[float]
    stream: Served
    unary: Served

    def served(self, mode: Mode) -> Served:
        """The server's measurements in one mode."""
        return {Mode.STREAM: self.stream, Mode.UNARY: self.unary}[mode]

    def ratio(self, mode: Mode) -> float:
        """The served rate over that of the engine alone, median of the repeats' ratios."""
        pairs = zip(self.served(mode).samples, self.alone, strict=True)
        return statistics.median(sample.symbols_per_second / alone for sample, alone in pairs)


@dataclass(frozen=True, kw_only=True)
class ServedRecord:
    """One run of one model.

    Attributes:
        format_version: of this file.
        model: CELL-HIDDENxLAYERS.
        machine: processor and versions.
        settings: of the run.
        points: by number of clients, in the order in which they were measured.
        one_character: seconds of each call.
        workers: symbols a second of one worker and of two.
    """

    format_version: int
    model: str
    machine: dict[str, str]
    settings: dict[str, Any]
    points: list[ServedPoint]
    one_character: OneCharacter
    workers: Scaling


def as_record(point: Point) -> ServedPoint:
    """Put a point's measurements in the form in which they are kept."""
    served = {
        mode.value: Served(
            samples=point.served[mode],
            first=_durations(point.histogram(mode, "first")),
            gaps=_durations(point.histogram(mode, "gaps")),
            requests=_durations(point.histogram(mode, "whole")),
        )
        for mode in Mode
    }
    return ServedPoint(clients=point.clients, alone=point.alone, **served)


def _durations(histogram: Histogram) -> Durations | None:
    p50, p90, p99, longest = (histogram.quantile(part) for part in (0.5, 0.9, 0.99, 1.0))
    if p50 is None or p90 is None or p99 is None or longest is None:  # nothing was counted
        return None
    return Durations(count=histogram.total, p50=p50, p90=p90, p99=p99, longest=longest)


def file_name(model: str) -> str:
    """Name of the file of one model."""
    return f"served-cpu-{model}.json"


def write(record: ServedRecord, path: Path) -> None:
    """Write a record."""
    write_record(record, path)


def read(path: Path) -> ServedRecord:
    """Read a record.

    Raises:
        SettingsError: it is no record, or one of another version.
    """
    return read_record(ServedRecord, FORMAT_VERSION, path)


def read_all(figures: Path) -> list[ServedRecord]:
    """Read the records of a folder, which must be of one machine and of the same settings.

    Raises:
        SettingsError: one is no record, or they are of several machines, versions or settings.
    """
    paths = sorted(figures.glob(file_name("*")))
    records = [read(path) for path in paths]
    for path, record in zip(paths, records, strict=True):
        if _kind(record) != _kind(records[0]):
            raise SettingsError(
                f"{path}: measured on {_kind(record)}, {paths[0].name} on {_kind(records[0])}; "
                "measure all of them on one machine with the same settings"
            )
    return records


def _kind(record: ServedRecord) -> dict[str, object]:
    return {**record.machine, **record.settings, "model": None}
