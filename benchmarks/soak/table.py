"""A soak's report on the terminal."""

from collections import Counter

from rich.table import Table

from benchmarks.soak.keeper import End
from benchmarks.soak.plan import Kind
from benchmarks.soak.report import Report
from benchmarks.soak.settings import SoakSettings


def as_table(settings: SoakSettings, report: Report) -> Table:
    """Show what was seen so far."""
    table = Table(title=title(settings), show_header=False, min_width=70)
    for name, value in _rows(report):
        table.add_row(name, value)
    return table


def title(settings: SoakSettings) -> str:
    """Name a soak in a line."""
    return (
        f"{settings.minutes:g} min, {settings.clients} clients in {settings.processes} "
        f"processes, two servers, seed {settings.seed}"
    )


def growth(report: Report) -> str:
    """Tell how the memory of the server that lived longest grew."""
    found = report.growth()
    return "-" if found is None else f"{found[0]:.1f} to {found[1]:.1f} MiB"


def _rows(report: Report) -> list[tuple[str, str]]:
    return [
        ("seconds", f"{report.seconds:.0f}"),
        *((kind.value, _done(report, kind)) for kind in Kind),
        ("texts compared", f"{report.texts:,} of {report.symbols:,} symbols"),
        ("mismatches", f"{report.mismatches:,}"),
        ("streams taken over", f"{report.takeovers:,}"),
        *((f"servers ended by {end.value}", f"{report.count_of(end):,}") for end in End),
        ("processes of clients killed", f"{report.clients_killed:,}"),
        ("expected errors", _counted(report.expected)),
        ("unexpected errors", _counted(report.unexpected)),
        ("held at the end", ", ".join(f"{n} {v:g}" for n, v in report.leaks.items()) or "-"),
        ("memory of the longest life", growth(report)),
    ]


def _done(report: Report, kind: Kind) -> str:
    broken = report.broken_off[kind]
    return f"{report.done[kind]:,}" + (f" and {broken:,} broken off" if broken else "")


def _counted(errors: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in errors.most_common()) or "none"
