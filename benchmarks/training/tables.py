"""The tables of the training benchmark."""

from collections.abc import Sequence

from benchmarks.tables import Row, Target, at_least
from benchmarks.training.record import LAB, MM, OURS, PRODUCTS, TORCH, TrainingPoint

OVER_LAB = 8.0
PRODUCTS_PART = 0.9


def training_rows(points: Sequence[TrainingPoint]) -> list[Row]:
    """Lay the points out: the header, then a row each; characters a second."""
    header = ["model", "precision", "threads", LAB, TORCH, OURS, "ours / lab's loop"]
    header += ["ours / torch", "products alone", "torch.mm / ours", "products / ours"]
    header += ["GFLOP an update"]
    rows = [[*header, "GFLOP/s of products"]]
    for point in points:
        lab, torch, ours, products = (
            f"{point.characters_per_second(way):,.0f}" for way in (LAB, TORCH, OURS, PRODUCTS)
        )
        rows.append(
            [
                point.model,
                point.precision,
                str(point.threads),
                lab,
                torch,
                ours,
                f"{point.ratio(LAB):.1f}",
                f"{point.ratio(TORCH):.2f}",
                products,
                f"{point.ratio(MM):.3f}",
                f"{point.ratio(PRODUCTS):.3f}",
                f"{point.operations / 1e9:.2f}",
                f"{point.products_per_second / 1e9:.0f}",
            ]
        )
    return rows


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
