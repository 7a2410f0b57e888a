"""Writes docs/notes/performance.md from the records in docs/figures (`make bench-report`)."""

import statistics
from collections import defaultdict
from pathlib import Path
from string import Template

from benchmarks import bulk, bulk_record, doors
from benchmarks.bulk_record import BulkRecord
from benchmarks.decode.record import DecodeRecord, Point
from benchmarks.decode.tables import decode_rows, targets
from benchmarks.doors import DoorsRecord
from benchmarks.record import read_all
from benchmarks.served.record import ServedRecord, file_name
from benchmarks.served.tables import call_rows, load_rows, model_target_rows, worker_rows
from benchmarks.tables import Row, markdown, target_rows
from unroll.errors import SettingsError

FIGURES, PAGE = Path("docs/figures"), Path("docs/notes/performance.md")
TEMPLATE, SERVED, BULK, DOORS = (
    Path(__file__).with_name(f"{name}.md.template")
    for name in ("performance", "served", "bulk", "doors")
)


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
            f"figures = {str(figures)!r}: no record there; `make bench-full` writes"
        )
    points = _points(records)
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        machine=_machine(records),
        steps=records[0].settings["steps"],
        decode=markdown(decode_rows(points)),
        targets=markdown(target_rows(targets(points))),
        setups=markdown(_setup_rows(points)),
        not_run=_not_run(points).rstrip(),
        served=_served(figures),
        bulk=_bulk(figures),
        doors=_doors(figures),
    )
    return text.rstrip() + "\n"


def _points(records: list[DecodeRecord]) -> list[Point]:
    points = [point for record in records for point in record.points]
    return sorted(points, key=lambda p: (p.model, p.vocabulary, p.precision, p.batch))


def _machine(records: list[DecodeRecord]) -> str:
    machine = records[0].machine
    versions = ", ".join(
        f"{name} {version}"
        for name, version in machine.items()
        if name not in {"processor", "core"}
    )
    rate = statistics.median(record.gigabytes_per_second for record in records)
    return (
        f"Measured on one core of {machine['processor']}, which reads {rate:.0f} GB/s from memory "
        f"beyond its caches; {versions}; {records[0].settings['repeats']} samples of each figure."
    )


def _setup_rows(points: list[Point]) -> list[Row]:
    """Lay out how the setups of each peer did: the header, then a row each."""
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    chosen: dict[tuple[str, str], int] = defaultdict(int)
    for point in points:
        for peer, trials in point.trials.items():
            best = min(trials.values())
            for setup, microseconds in trials.items():
                ratios[peer, setup].append(microseconds / best)
            chosen[peer, point.setups[peer]] += 1
    rows = [["peer", "setup", "the fastest at", "time / the fastest's"]]
    for (peer, setup), values in ratios.items():
        mean = statistics.geometric_mean(values)
        fastest_at = f"{chosen[peer, setup]} of {len(values)} points"
        rows.append([peer, setup, fastest_at, f"{mean:.2f}"])
    return rows


def _not_run(points: list[Point]) -> str:
    reasons = {f"{peer}: {why}." for point in points for peer, why in point.not_run.items()}
    return "".join(f"* Not run: {reason}\n" for reason in sorted(reasons)) or "All peers ran.\n"


def _served(figures: Path) -> str:
    """Lay out the server under load; empty if no model was served."""
    settings = ("clients", "vocabulary", "new_symbols", "slots", "seconds", "warm_up", "repeats")
    paths = figures.glob(file_name("*"))
    records = read_all(ServedRecord, paths, (*settings, "calls"))
    if not records:
        return ""
    machine = records[0].machine
    versions = [f"{name} {of}" for name, of in machine.items() if name != "processor"]
    return Template(SERVED.read_text(encoding="utf-8")).substitute(
        records[0].settings,
        machine=f"two cores of {machine['processor']}; {', '.join(versions)}",
        load_tables="\n\n".join(
            f"### {record.model}\n\n{markdown(load_rows(record))}" for record in records
        ),
        call_table=markdown(call_rows(records)),
        worker_table=markdown(worker_rows(records)),
        target_table=markdown(model_target_rows(records)),
    )


def _bulk(figures: Path) -> str:
    """Lay out many short texts; empty if they were not measured."""
    records = read_all(BulkRecord, figures.glob(bulk_record.file_name("*")), ("seconds", "repeats"))
    template = Template(BULK.read_text(encoding="utf-8"))
    return "".join(
        template.substitute(
            record.settings,
            model=record.model,
            mean=round(record.mean_symbols),
            rows=bulk.ROWS,
            steady=bulk.STEADY,
            machine=_described(record.machine),
            table=markdown(bulk_record.bulk_rows(record)),
            targets=markdown(target_rows(bulk_record.targets(record))),
        ).rstrip()
        for record in records
    )


def _doors(figures: Path) -> str:
    """Lay out what a message costs at each door; empty if it was not measured."""
    records = read_all(DoorsRecord, figures.glob(doors.FILE), ())
    template = Template(DOORS.read_text(encoding="utf-8"))
    return "".join(
        template.substitute(
            record.settings,
            machine=_described(record.machine),
            table=markdown(doors.door_rows(record)),
        ).rstrip()
        for record in records
    )


def _described(machine: dict[str, str]) -> str:
    return ", ".join(
        each if name == "processor" else f"{name} {each}" for name, each in machine.items()
    )


if __name__ == "__main__":
    PAGE.write_text(page(FIGURES), encoding="utf-8")
