"""The tables of the decode benchmark, for the terminal and for the page."""

import statistics
from collections.abc import Sequence

from benchmarks.decode.peers.registry import PEERS
from benchmarks.decode.record import FP32_LOOP, LOOP, NATIVE, PRODUCTS, READ, TORCH, Point
from benchmarks.tables import Row, Target, at_least, at_most

MISSING = "not run"


def decode_rows(points: Sequence[Point]) -> list[Row]:
    """Lay the points out: the header, then a row each; microseconds per step."""
    peers = [p for p in PEERS if any(p in point.peers or p in point.not_run for point in points)]
    header = ["model", "V", "batch", "precision", READ, PRODUCTS, LOOP, "loop / products"]
    lower = " or ".join(dict.fromkeys(p.precision for p in points if p.precision != "fp32"))
    over_fp32 = f"fp32 / {lower or 'int8'}"
    native = any(NATIVE in point.microseconds for point in points)
    header += [NATIVE, "native / products", "best peer / native"] * native
    rows = [[*header, *peers, "best peer / loop", "torch / loop", over_fp32, "symbols/s"]]
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
                *(_native(point) if native else []),
                *(_time(point, peer) for peer in peers),
                f"{point.over_loop(best):.2f} {best}" if best else "",
                *(_over_loop(point, way) for way in (TORCH, FP32_LOOP)),
                f"{point.symbols_per_second:,.0f}",
            ]
        )
    return rows


def _native(point: Point) -> Row:
    if NATIVE not in point.microseconds:
        return ["", "", ""]
    best = point.best_peer
    return [
        _time(point, NATIVE),
        f"{1 / point.over_loop(PRODUCTS, NATIVE):.2f}",
        f"{point.over_loop(best, NATIVE):.2f}" if best else "",
    ]


def _over_loop(point: Point, way: str) -> str:
    return f"{point.over_loop(way):.2f}" if way in point.microseconds else ""


def _time(point: Point, way: str) -> str:
    if way in point.microseconds:
        return f"{point.median(way):,.0f}"
    return MISSING if way in point.not_run else ""


def targets(points: Sequence[Point]) -> list[Target]:
    """Compare the points with what was aimed at; a target without points is left out."""
    in_int8 = [p for p in points if p.precision == "int8" and FP32_LOOP in p.microseconds]
    points = [point for point in points if point.precision == "fp32"]
    compared = [point for point in points if point.peers]
    found = []
    for name, limit, chosen in (
        ("loop / products, batch 16 and more", 1.15, [p for p in points if p.batch >= 16]),
        ("loop / products, batch 1", 1.3, [p for p in points if p.batch == 1]),
    ):
        if chosen:
            worst = max(chosen, key=lambda p: p.over_products)
            value = worst.over_products
            found.append(at_most(name, limit, value, _at_worst(value, worst)))
    if compared:
        found.append(_at_least("best peer / loop, everywhere", 1.0, None, compared))
        mean = statistics.geometric_mean(p.over_loop(p.best_peer or LOOP) for p in compared)
        told = f"{mean:.2f} over {len(compared)} points"
        found.append(at_least("best peer / loop, geometric mean", 1.2, mean, told))
    if beside_torch := [p for p in points if p.batch == 1 and TORCH in p.microseconds]:
        found.append(_at_least("torch / loop, batch 1", 2.5, TORCH, beside_torch))
    for batch, limit in ((1, 2.0), (64, 1.5)):
        if chosen := [p for p in in_int8 if p.batch == batch and p.model.endswith("x3")]:
            name = f"fp32 / int8, three layers, batch {batch}"
            found.append(_at_least(name, limit, FP32_LOOP, chosen))
    return found


def _at_least(name: str, limit: float, way: str | None, points: Sequence[Point]) -> Target:
    """Judge the point where a way, by default the best peer, is nearest to the loop."""
    ratios = [point.over_loop(way or point.best_peer or LOOP) for point in points]
    value = min(ratios)
    return at_least(name, limit, value, _at_worst(value, points[ratios.index(value)]))


def _at_worst(value: float, worst: Point) -> str:
    place = f"{worst.model}, V = {worst.vocabulary}, batch {worst.batch}"
    return f"{value:.2f} at worst ({place})"
