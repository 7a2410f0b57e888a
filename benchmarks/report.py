"""Writes docs/notes/performance.md from the records in docs/figures (`make bench-report`)."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from string import Template

from benchmarks import filters
from benchmarks.bulk import record as bulk
from benchmarks.bulk.record import BulkRecord
from benchmarks.decode.record import WORSE_AT_MOST, DecodeRecord, Point
from benchmarks.decode.tables import decode_rows, int8_rows, targets
from benchmarks.filters import FiltersRecord
from benchmarks.harness.record import described, read, read_all
from benchmarks.harness.tables import Row, markdown, target_rows
from benchmarks.served.record import ServedRecord, file_name
from benchmarks.served.tables import call_rows, load_rows, model_target_rows, worker_rows
from unroll.errors import SettingsError

NATIVE = "The same by the native kernels, with which the engine alone is faster, too:"
TEMPLATES = Path(__file__).with_name("templates")
FIGURES, PAGE = Path("docs/figures"), Path("docs/notes/performance.md")
# What all records of servers under load must have in common.
SERVED = ("clients", "vocabulary", "new_symbols", "slots", "seconds", "warm_up", "repeats", "calls")


def page(figures: Path) -> str:
    """Make the page.

    Args:
        figures: folder with the records of a run of the whole grid.

    Raises:
        SettingsError: there are none, or they are of several machines, versions or settings.
    """
    records = read_all(DecodeRecord, figures.glob("decode-cpu-*.json"), ("steps", "repeats"))
    if not records:
        raise SettingsError(
            f"figures = {str(figures)!r}: no record there; --config benchmarks/native.toml writes"
        )
    served = read_all(ServedRecord, figures.glob(file_name("*")), SERVED)
    of_bulk = read_all(BulkRecord, figures.glob(bulk.file_name("*")), ("seconds", "repeats"))
    with_amx = read_all(DecodeRecord, figures.glob("amx-cpu-*.json"), ("steps", "repeats"))
    of_filters = read_all(FiltersRecord, figures.glob(filters.FILE), ())
    sections = [
        _decode(records),
        *([_decode(with_amx, "amx")] if with_amx else []),
        *map(_filters, of_filters),
        *([_served(served)] if served else []),
        *(_bulk(each, figures) for each in of_bulk),
    ]
    return "\n\n".join(sections) + "\n"


def _section(name: str, *values: dict[str, object], **more: object) -> str:
    """Fill a section's template."""
    template = (TEMPLATES / f"{name}.md.template").read_text(encoding="utf-8")
    return Template(template).substitute(*values, **more).strip()


def _points(records: Sequence[DecodeRecord]) -> list[Point]:
    points = [point for record in records for point in record.points]
    return sorted(points, key=lambda p: (p.model, p.vocabulary, p.precision, p.batch))


def _not_run(points: Sequence[Point]) -> str:
    reasons = {f"{peer}: {why}." for point in points for peer, why in point.not_run.items()}
    return "\n".join(f"* Not run: {each}" for each in sorted(reasons)) or "All peers ran."


def _decode(records: Sequence[DecodeRecord], name: str = "decode") -> str:
    points, first = _points(records), records[0]
    rate = statistics.median(record.gigabytes_per_second for record in records)
    return _section(
        name,
        first.settings,
        processor=first.machine["processor"],
        amx="with" if first.has_amx else "without",
        rate=f"{rate:.0f}",
        versions=described(first.machine, "processor", "core"),
        decode=markdown(decode_rows(points)),
        losses=markdown(int8_rows(points)),
        worse=WORSE_AT_MOST,
        targets=markdown(target_rows(targets(points, has_amx=first.has_amx))),
        setups=markdown(_setup_rows(points)),
        not_run=_not_run(points),
    )


def _filters(record: FiltersRecord) -> str:
    return _section(
        "filters",
        record.settings,
        machine=described(record.machine, "core"),
        table=markdown(filters.filter_rows(record)),
        targets=markdown(target_rows(filters.targets(record))),
    )


def _setup_rows(points: Sequence[Point]) -> list[Row]:
    """Lay out how the setups of each peer did: the header, then a row each."""
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for point in points:
        for peer, trials in point.trials.items():
            for setup, microseconds in trials.items():
                ratios[peer, setup].append(microseconds / min(trials.values()))
    chosen = Counter(each for point in points for each in point.setups.items())
    rows = [["peer", "setup", "the fastest at", "time / the fastest's"]]
    for (peer, setup), values in ratios.items():
        fastest_at = f"{chosen[peer, setup]} of {len(values)} points"
        rows.append([peer, setup, fastest_at, f"{statistics.geometric_mean(values):.2f}"])
    return rows


def _served(records: Sequence[ServedRecord]) -> str:
    tables = (f"### {record.model}\n\n{markdown(load_rows(record))}" for record in records)
    return _section(
        "served",
        records[0].settings,
        machine=described(records[0].machine),
        load_tables="\n\n".join(tables),
        call_table=markdown(call_rows(records)),
        worker_table=markdown(worker_rows(records)),
        target_table=markdown(model_target_rows(records)),
    )


def _bulk(record: BulkRecord, figures: Path) -> str:
    file = figures / bulk.file_name(record.model, "native")
    native = bulk.bulk_rows(read(BulkRecord, file)) if file.exists() else None
    return _section(
        "bulk",
        record.settings,
        model=record.model,
        mean=round(record.mean_symbols),
        rows=bulk.ROWS,
        steady=bulk.STEADY,
        machine=described(record.machine),
        table=markdown(bulk.bulk_rows(record)),
        targets=markdown(target_rows(bulk.targets(record))),
        native="" if native is None else f"\n{NATIVE}\n\n{markdown(native)}\n",
    )


if __name__ == "__main__":
    PAGE.write_text(page(FIGURES), encoding="utf-8")
