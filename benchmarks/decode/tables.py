"""The tables of the decode benchmark, for the terminal and for the page."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.decode.peers.registry import PEERS
from benchmarks.decode.record import FP32_LOOP, LOOP, NATIVE, PRODUCTS, READ, TORCH, Point
from benchmarks.harness.tables import Row, Target, at_least, at_most

MISSING = "not run"
SMALL = 16  # rows


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
                f"{point.over_products():.2f}",
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
        f"{point.over_products(NATIVE):.2f}",
        f"{point.over_loop(best, NATIVE):.2f}" if best else "",
    ]


def _over_loop(point: Point, way: str) -> str:
    return f"{point.over_loop(way):.2f}" if way in point.microseconds else ""


def _time(point: Point, way: str) -> str:
    if way in point.microseconds:
        return f"{point.median(way):,.0f}"
    return MISSING if way in point.not_run else ""


def int8_rows(points: Sequence[Point]) -> list[Row]:
    """Lay out what 8 bits cost: the header, then a row a model and vocabulary; nats a symbol."""
    judged = {(point.model, point.vocabulary): point for point in points if point.losses}
    names = list(dict.fromkeys(name for point in judged.values() for name in point.losses))
    rows = [["model", "V", *names]]
    for point in judged.values():
        losses = (point.losses.get(name) for name in names)
        told = ("" if loss is None else f"{loss:.5f}" for loss in losses)
        rows.append([point.model, str(point.vocabulary), *told])
    return rows


def targets(points: Sequence[Point], *, has_amx: bool = False) -> list[Target]:
    """Compare both loops, the native kernels' and the graph's, with what was aimed at.

    Args:
        points: measured; a target without points is left out.
        has_amx: whether the processor multiplied 8 bits in tiles, which leaves more to the rest.
    """
    found = []
    for loop in (NATIVE, LOOP):
        measured = [point for point in points if loop in point.microseconds]
        found += _targets(measured, loop, 1.6 if has_amx else 1.25)
    return found


def _targets(points: Sequence[Point], loop: str, large: float) -> list[Target]:
    found = _targets_of_products(
        [point for point in points if point.precision == "int8"],
        loop,
        (
            ("int8, batch 64 and 256", large, lambda batch: batch in {64, 256}),
            ("int8, batch 1", 1.5, lambda batch: batch == 1),
        ),
    )
    small = [p for p in points if p.precision == "fp32" and p.batch <= SMALL and p.peers]
    if small:
        found += _targets_of_peers(
            small, loop, everywhere=0.95, mean=1.0, where=f"batch 1 to {SMALL}"
        )
    return found


def _targets_of_products(
    points: Sequence[Point],
    loop: str,
    limits: Sequence[tuple[str, float, Callable[[int], bool]]],
) -> list[Target]:
    """Judge where a loop takes most over its products, by sizes of batches."""
    found = []
    for batches, limit, is_chosen in limits:
        if chosen := [point for point in points if is_chosen(point.batch)]:
            worst = max(chosen, key=lambda p: p.over_products(loop))
            value = worst.over_products(loop)
            name = f"{loop} / products, {batches}"
            found.append(at_most(name, limit, value, _at_worst(value, worst)))
    return found


def _targets_of_peers(
    points: Sequence[Point], loop: str, *, everywhere: float, mean: float, where: str
) -> list[Target]:
    """Judge a loop beside the best peer of each point."""
    value = statistics.geometric_mean(p.over_loop(p.best_peer or loop, loop) for p in points)
    told = f"{value:.2f} over {len(points)} points"
    name = f"best peer / {loop}"
    return [
        _nearest(f"{name}, {where}", everywhere, points, loop),
        at_least(f"{name}, geometric mean, {where}", mean, value, told),
    ]


def _nearest(name: str, limit: float, points: Sequence[Point], loop: str) -> Target:
    """Judge the point where the best peer is nearest to a loop."""
    ratios = [point.over_loop(point.best_peer or loop, loop) for point in points]
    value = min(ratios)
    return at_least(name, limit, value, _at_worst(value, points[ratios.index(value)]))


def _at_worst(value: float, worst: Point) -> str:
    place = f"{worst.model}, V = {worst.vocabulary}, batch {worst.batch}"
    return f"{value:.2f} at worst ({place})"
