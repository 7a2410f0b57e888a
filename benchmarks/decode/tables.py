"""The tables of the decode benchmark, for the terminal and for the page."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks.decode.peers.registry import PEERS
from benchmarks.decode.record import FP32_LOOP, LOOP, PRODUCTS, READ, TORCH, Point

Row = list[str]
MISSING = "not run"
TEXT_COLUMNS = {"model", "precision", "target"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target, and what was measured.

    Attributes:
        name: what is measured.
        wanted: the limit, with its sign.
        found: what was measured, and where.
        is_met: whether it is.
    """

    name: str
    wanted: str
    found: str
    is_met: bool


def decode_rows(points: Sequence[Point]) -> list[Row]:
    """Lay the points out: the header, then a row each; microseconds per step."""
    peers = [p for p in PEERS if any(p in point.peers or p in point.not_run for point in points)]
    header = ["model", "V", "batch", "precision", READ, PRODUCTS, LOOP, "loop / products"]
    rows = [[*header, *peers, "best peer / loop", "torch / loop", "fp32 / int8", "symbols/s"]]
    for point in points:
        best = point.best_peer
        rows.append(
            [
                point.model,
                str(point.vocabulary),
                str(point.batch),
                point.precision,
                *(_time(point, way) for way in (READ, PRODUCTS, LOOP)),
                f"{point.over_products:.2f}",
                *(_time(point, peer) for peer in peers),
                f"{point.over_loop(best):.2f} {best}" if best else "",
                *(_over_loop(point, way) for way in (TORCH, FP32_LOOP)),
                f"{point.symbols_per_second:,.0f}",
            ]
        )
    return rows


def _over_loop(point: Point, way: str) -> str:
    return f"{point.over_loop(way):.2f}" if way in point.microseconds else ""


def _time(point: Point, way: str) -> str:
    if way in point.microseconds:
        return f"{point.median(way):,.0f}"
    return MISSING if way in point.not_run else ""


def targets(points: Sequence[Point]) -> list[Target]:
    """Compare the points with what was aimed at; a target without points is left out."""
    in_int8 = [point for point in points if FP32_LOOP in point.microseconds]
    points = [point for point in points if point.precision == "fp32"]
    compared = [point for point in points if point.peers]
    beside_torch = [p for p in points if p.batch == 1 and TORCH in p.microseconds]
    found = []
    for name, limit, chosen in (
        ("loop / products, batch 16 and more", 1.15, [p for p in points if p.batch >= 16]),
        ("loop / products, batch 1", 1.3, [p for p in points if p.batch == 1]),
    ):
        if chosen:
            worst = max(chosen, key=lambda p: p.over_products)
            found.append(_at_most(name, limit, worst, worst.over_products))
    if compared:
        ratios = {id(p): p.over_loop(p.best_peer or LOOP) for p in compared}
        worst = min(compared, key=lambda p: ratios[id(p)])
        found.append(_at_least("best peer / loop, everywhere", 1.0, worst, ratios[id(worst)]))
        mean = statistics.geometric_mean(ratios.values())
        found.append(
            Target(
                name="best peer / loop, geometric mean",
                wanted=">= 1.2",
                found=f"{mean:.2f} over {len(compared)} points",
                is_met=mean >= 1.2,
            )
        )
    if beside_torch:
        worst = min(beside_torch, key=lambda p: p.over_loop(TORCH))
        found.append(_at_least("torch / loop, batch 1", 2.5, worst, worst.over_loop(TORCH)))
    for batch, limit in ((1, 2.0), (64, 1.5)):
        chosen = [p for p in in_int8 if p.batch == batch and p.model.endswith("x3")]
        if chosen:
            worst = min(chosen, key=lambda p: p.over_loop(FP32_LOOP))
            name = f"fp32 / int8, three layers, batch {batch}"
            found.append(_at_least(name, limit, worst, worst.over_loop(FP32_LOOP)))
    return found


def _place(point: Point) -> str:
    return f"{point.model}, V = {point.vocabulary}, batch {point.batch}"


def _at_most(name: str, limit: float, worst: Point, value: float) -> Target:
    found = f"{value:.2f} at worst ({_place(worst)})"
    return Target(name=name, wanted=f"<= {limit:g}", found=found, is_met=value <= limit)


def _at_least(name: str, limit: float, worst: Point, value: float) -> Target:
    found = f"{value:.2f} at worst ({_place(worst)})"
    return Target(name=name, wanted=f">= {limit:g}", found=found, is_met=value >= limit)


def target_rows(points: Sequence[Point]) -> list[Row]:
    """Lay the targets out: the header, then a row each."""
    rows = [["target", "wanted", "found", "met"]]
    for target in targets(points):
        rows.append([target.name, target.wanted, target.found, "yes" if target.is_met else "NO"])
    return rows


def terminal(rows: Iterable[Row], title: str) -> Table:
    """Make a table for the terminal."""
    header, *body = rows
    table = Table(title=title)
    for column in header:
        table.add_column(column, justify="left" if column in TEXT_COLUMNS else "right")
    for row in body:
        table.add_row(*row)
    return table


def markdown(rows: Iterable[Row]) -> str:
    """Make a table for a page."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
