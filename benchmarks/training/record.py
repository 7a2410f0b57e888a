"""What a run of the training benchmark measured: one JSON file a model.

training-cpu-MODEL.json   format version, machine, settings, points with every sample
"""

import statistics
from dataclasses import dataclass

from unroll.record import Record

LAB, TORCH, OURS = "lab's loop", "torch", "ours"
MM, PRODUCTS = "torch.mm", "products"  # alone, by torch.mm and as fast as we know


@dataclass(frozen=True, kw_only=True)
class TrainingPoint:
    """The samples of one model in one precision with one number of threads.

    Attributes:
        model: CELL-HIDDENxLAYERS.
        precision: of our products; torch's loops compute in fp32.
        threads: of the processor.
        characters: that an update of ours learns from.
        operations: additions and multiplications of an update's products.
        microseconds: samples per character, by way; the i-th of each are of the same round.
        differences: of torch's first update from ours, relative to the greatest value of the same
            gradient; by way, the farthest.
    """

    model: str
    precision: str
    threads: int
    characters: int
    operations: int
    microseconds: dict[str, list[float]]
    differences: dict[str, float]

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
