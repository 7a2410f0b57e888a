"""What filters cost: a step of the loop with each, over a plain step.

filters-cpu.json    format version, machine, settings, every sample
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

from benchmarks.decode.limits import products_alone
from benchmarks.decode.loop import plain_run
from benchmarks.harness.machine import COMPUTING, pin
from benchmarks.harness.models import exported, random_checkpoint
from benchmarks.harness.record import save
from benchmarks.harness.settings import check_settings
from benchmarks.harness.tables import Row, Target, at_least, at_most, console, target_rows, terminal
from benchmarks.harness.timing import Way, interleave
from serving.runtime.decoder import Decoder, LoopRun
from serving.runtime.kernels import Kernels, open_decoder
from serving.runtime.sampling import uniforms
from unroll.bundle.folder import Bundle
from unroll.cli import run
from unroll.machine import describe
from unroll.ranges import Range
from unroll.record import Record, settings_of

FILE = "filters-cpu.json"
PRODUCTS, PLAIN, BESIDE = "products", "plain", "plain rows beside one with top_p"
FILTERS: dict[str, dict[str, float]] = {
    "top_k = 40": {"top_k": 40},
    "top_p = 0.9": {"top_p": 0.9},
    "min_p = 0.05": {"min_p": 0.05},
}
LARGE = 1000  # symbols
AT_MOST = {True: 1.5, False: 1.2}  # of plain, where the vocabulary is large
KEPT, OVER_PRODUCTS = 0.8, 1.3


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FiltersSettings:
    """Measure the processor time of filters, in turn."""

    model: tuple[str, ...] = ("gru-512x1",)
    """Models as CELL-HIDDENxLAYERS; their weights are random, so distributions are wide."""

    vocabulary: Annotated[tuple[int, ...], Range(64)] = (76, 5000)
    """Sizes of the vocabulary."""

    precision: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
    """Precisions of the bundle."""

    kernels: tuple[Kernels, ...] = (Kernels.ONNX,)
    """What computes the loop; `make kernels` compiles `native`."""

    batch: Annotated[int, Range(2)] = 64
    """Rows."""

    steps: Annotated[int, Range(1)] = 16
    """Symbols a row in one measurement."""

    repeats: Annotated[int, Range(1)] = 7
    """Measurements of each way; the median of their ratios counts."""

    core: int | None = None
    """Processor core to stay on; by default the last one."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample."""


@dataclass(frozen=True, kw_only=True)
class FilterPoint:
    """One model and its kernels; microseconds of processor time per step, by way."""

    model: str
    vocabulary: int
    precision: str
    kernels: str
    microseconds: dict[str, list[float]]

    def ratio(self, way: str, other: str = PLAIN) -> float:
        """Median over the turns of one way's time over another's."""
        turns = zip(self.microseconds[way], self.microseconds[other], strict=True)
        return statistics.median(one / two for one, two in turns)


@dataclass(frozen=True, kw_only=True)
class FiltersRecord(Record):
    """One run; the points in the order in which they were measured."""

    points: list[FilterPoint]


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    run(FiltersSettings, measure, name="python -m benchmarks.filters", tokens=tokens)


def measure(settings: FiltersSettings) -> None:
    """Measure, print and, if asked for, write the figures.

    Raises:
        SettingsError: the settings cannot be measured.
        DeviceError: the native kernels cannot run here.
    """
    check_settings(settings)
    core, points = pin(settings.core), []
    for model in settings.model:
        for vocabulary in settings.vocabulary:
            checkpoint = random_checkpoint(model, vocabulary)
            for precision in settings.precision:
                with exported(checkpoint, precision) as bundle:
                    points += _measure(bundle, model, settings)
    record = FiltersRecord(
        machine=describe(*COMPUTING) | {"core": str(core)},
        settings=settings_of(settings),
        points=points,
    )
    screen = console()
    screen.print(terminal(filter_rows(record), f"{settings.batch} rows: time over plain"))
    screen.print(terminal(target_rows(targets(record)), "Targets"))
    save(record, settings.json, FILE)


def _measure(bundle: Bundle, model: str, settings: FiltersSettings) -> list[FilterPoint]:
    steps, vocabulary = settings.steps, len(bundle.vocabulary)
    uniform = np.stack([uniforms(row, 0, steps) for row in range(settings.batch)], axis=1)
    plain, found = plain_run(uniform), []
    for kernels in settings.kernels:
        decoder = open_decoder(bundle, kernels)
        runs = {PLAIN: plain} | {name: _filtered(plain, every) for name, every in FILTERS.items()}
        runs[BESIDE] = _filtered(plain, FILTERS["top_p = 0.9"], rows=1)
        ways = {name: _way(decoder, each) for name, each in runs.items()}
        ways[PRODUCTS] = products_alone(bundle, settings.batch, steps)
        samples = interleave(ways, settings.repeats, steps, time.thread_time)
        found.append(
            FilterPoint(
                model=model,
                vocabulary=vocabulary,
                precision=bundle.manifest.model.precision,
                kernels=kernels.value,
                microseconds=samples,
            )
        )
    return found


def _filtered(plain: LoopRun, parameters: dict[str, float], rows: int | None = None) -> LoopRun:
    """Give the first rows a filter."""
    changed = {}
    for name, value in parameters.items():
        changed[name] = getattr(plain, name).copy()
        changed[name][:rows] = value
    return replace(plain, **changed)


def _way(decoder: Decoder, each: LoopRun) -> Way:
    state = decoder.zero_state(len(each.tokens))
    return lambda: decoder.run(each, state)


def filter_rows(record: FiltersRecord) -> list[Row]:
    """Lay the points out: the header, then a row each."""
    header = ["model", "V", "precision", "kernels", "products, us", "plain, us", "plain / products"]
    rows = [[*header, *FILTERS, "plain kept beside top_p"]]
    for point in record.points:
        times = (statistics.median(point.microseconds[way]) for way in (PRODUCTS, PLAIN))
        rows.append(
            [
                point.model,
                f"{point.vocabulary:,}",
                point.precision,
                point.kernels,
                *(f"{each:,.0f}" for each in times),
                f"{point.ratio(PLAIN, PRODUCTS):.2f}",
                *(f"{point.ratio(name):.2f}" for name in FILTERS),
                f"{point.ratio(PLAIN, BESIDE):.2f}",
            ]
        )
    return rows


def targets(record: FiltersRecord) -> list[Target]:
    """Compare the points with what was aimed at, each kind of kernels apart."""
    found = []
    for kernels in dict.fromkeys(point.kernels for point in record.points):
        points = [point for point in record.points if point.kernels == kernels]
        for is_large, limit in AT_MOST.items():
            chosen = [p for p in points if (p.vocabulary >= LARGE) == is_large]
            if not chosen:
                continue
            pairs = [(point, name) for point in chosen for name in FILTERS]
            at, name = max(pairs, key=lambda pair: pair[0].ratio(pair[1]))
            worst = at.ratio(name)
            size = f"{'from' if is_large else 'below'} {LARGE:,} symbols"
            told = f"{worst:.2f} at worst ({name}, V = {at.vocabulary:,}, {at.precision})"
            found.append(at_most(f"{kernels}: filter / plain, {size}", limit, worst, told))
            if is_large:
                most = max(p.ratio(PLAIN, PRODUCTS) for p in chosen)
                told = f"{most:.2f} at worst"
                name = f"{kernels}: plain / products, {size}"
                found.append(at_most(name, OVER_PRODUCTS, most, told))
        kept = min(p.ratio(PLAIN, BESIDE) for p in points)
        name = f"{kernels}: rate of plain rows beside one with top_p"
        found.append(at_least(name, KEPT, kept, f"{kept:.2f} at worst"))
    return found


if __name__ == "__main__":
    main()
