"""A soak's report as JSON and as a picture."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load.record import plain
from benchmarks.soak.keeper import End, Look
from benchmarks.soak.report import Report, failures
from benchmarks.soak.settings import SoakSettings
from benchmarks.soak.table import title

COLOURS = ("tab:blue", "tab:orange")


def as_record(settings: SoakSettings, report: Report) -> dict[str, Any]:
    """Return all that was seen as JSON knows it; memory in bytes."""
    from benchmarks.machine import processor  # torch; clients do without

    grown = report.growth()
    return {
        "settings": {name: plain(value) for name, value in asdict(settings).items()},
        "processor": processor(),
        "seconds": report.seconds,
        "done": {kind.value: count for kind, count in report.done.items()},
        "broken_off": {kind.value: count for kind, count in report.broken_off.items()},
        "texts": report.texts,
        "symbols": report.symbols,
        "mismatches": report.mismatches,
        "takeovers": report.takeovers,
        "servers_ended": {end.value: report.count_of(end) for end in End},
        "clients_killed": report.clients_killed,
        "expected_errors": dict(report.expected),
        "unexpected_errors": dict(report.unexpected),
        "held_at_the_end": report.leaks,
        "memory_growth_mib": None if grown is None else {"early": grown[0], "late": grown[1]},
        "memory": [[_memory(look) for look in looks] for looks in report.looks],
        "ends": [[(seconds, end.value) for seconds, end in ends] for ends in report.ends],
        "failures": failures(report),
        "examples": report.examples,
    }


def write_json(path: Path, settings: SoakSettings, report: Report) -> None:
    """Write a soak's record."""
    path.write_text(json.dumps(as_record(settings, report), indent=1) + "\n", encoding="utf-8")


def write_plot(path: Path, settings: SoakSettings, report: Report) -> None:
    """Draw the servers' memory and the symbols compared over time, as PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(9, 5), layout="constrained")
    figure.suptitle(title(settings))
    memory, work = figure.subplots(2, 1, sharex=True)
    for index, (looks, ends) in enumerate(zip(report.looks, report.ends, strict=True)):
        for life in sorted({look.life for look in looks}):
            points = [look for look in looks if look.life == life]
            memory.plot(
                [look.seconds for look in points],
                [look.page.resident_bytes / 2**20 for look in points],
                color=COLOURS[index],
                label=f"server {index + 1}" if life == points[0].life == 1 else None,
            )
        for seconds, end in ends:
            style = ":" if end is End.DRAINED else "-"
            memory.axvline(seconds, color=COLOURS[index], linewidth=0.4, linestyle=style)
    memory.set_ylabel("memory, MiB\n(lines: SIGKILL, dotted: SIGTERM)")
    memory.set_ylim(bottom=0)
    memory.legend(loc="lower right")
    work.plot([seconds for seconds, _ in report.rate], [symbols for _, symbols in report.rate])
    work.set_ylabel("symbols compared")
    work.set_xlabel("seconds")
    figure.savefig(path, format="png", dpi=80)


def _memory(look: Look) -> tuple[float, int, float]:
    return round(look.seconds, 1), look.life, look.page.resident_bytes
