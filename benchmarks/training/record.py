"""What a run of the training benchmark measured, as one JSON file a model and as tables.

training-cpu-MODEL.json   format version, machine, settings, points with every sample
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.tables import Row, Target, at_least
from unroll.record import Record

LAB, TORCH, OURS = "lab's loop", "torch", "ours"
MM, PRODUCTS = "torch.mm", "products"  # alone, by torch.mm and as fast as we know
OVER_LAB = 8.0
PRODUCTS_PART = 0.9
HEADER = (
    *("model", "precision", "threads", LAB, TORCH, OURS, "ours / lab's loop", "ours / torch"),
    *("products alone", "torch.mm / ours", "products / ours"),
    *("GFLOP an update", "GFLOP/s of products"),
)


@dataclass(frozen=True, kw_only=True)
class TrainingPoint:
    """The samples of one model in one precision with one number of threads."""

    model: str
    precision: str  # of our products; torch's loops compute in fp32
    threads: int
    characters: int  # that an update of ours learns from
    operations: int  # additions and multiplications of an update's products
    microseconds: dict[str, list[float]]  # a character, by way; the i-th are of the same round
    differences: dict[str, float]  # of torch's first update from ours, relative; the farthest

    def characters_per_second(self, way: str) -> float:
        """The median rate of one way."""
        return 1e6 / statistics.median(self.microseconds[way])

    def ratio(self, way: str) -> float:
        """Time of a way over ours, median of the rounds' ratios."""
        pairs = zip(self.microseconds[way], self.microseconds[OURS], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    @property
    def products_per_second(self) -> float:
        """Operations a second of the products alone."""
        return self.operations / self.characters * self.characters_per_second(PRODUCTS)


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(Record):
    """One run of one model; the points in the order in which they were measured."""

    points: list[TrainingPoint]


def file_name(model: str) -> str:
    """Name of the file of one model."""
    return f"training-cpu-{model}.json"


def training_rows(points: Sequence[TrainingPoint]) -> list[Row]:
    """Lay the points out: the header, then a row each; characters a second."""
    return [[*HEADER], *map(_row, points)]


def _row(point: TrainingPoint) -> Row:
    *loops, products = (
        f"{point.characters_per_second(way):,.0f}" for way in (LAB, TORCH, OURS, PRODUCTS)
    )
    return [
        *(point.model, point.precision, str(point.threads), *loops),
        *(f"{point.ratio(LAB):.1f}", f"{point.ratio(TORCH):.2f}", products),
        *(f"{point.ratio(MM):.3f}", f"{point.ratio(PRODUCTS):.3f}"),
        *(f"{point.operations / 1e9:.2f}", f"{point.products_per_second / 1e9:.0f}"),
    ]


def targets(points: Sequence[TrainingPoint]) -> list[Target]:
    """Compare the worst point with each target."""
    return [
        _at_least("characters/s, ours / lab's loop", OVER_LAB, LAB, points),
        _at_least("time, torch.mm alone / ours", PRODUCTS_PART, MM, points),
    ]


def _at_least(name: str, limit: float, way: str, points: Sequence[TrainingPoint]) -> Target:
    worst = min(points, key=lambda point: point.ratio(way))
    value = worst.ratio(way)
    place = f"{worst.model}, {worst.precision}, threads {worst.threads}"
    return at_least(name, limit, value, f"{value:.2f} at worst ({place})")
