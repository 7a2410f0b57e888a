"""Tables of the benchmarks, for the terminal and for the page, and the targets in them."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

Row = list[str]
WIDTH = 190  # a terminal may be narrower, a pipe has none
TEXT_COLUMNS = {"model", "precision", "target", "mode", ""}


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


def at_most(name: str, limit: float, value: float, found: str) -> Target:
    """Compare a value with the highest that is wanted."""
    return Target(name=name, wanted=f"<= {limit:g}", found=found, is_met=value <= limit)


def at_least(name: str, limit: float, value: float, found: str) -> Target:
    """Compare a value with the lowest that is wanted."""
    return Target(name=name, wanted=f">= {limit:g}", found=found, is_met=value >= limit)


def target_rows(targets: Iterable[Target]) -> list[Row]:
    """Lay targets out: the header, then a row each."""
    rows = [["target", "wanted", "found", "met"]]
    for target in targets:
        rows.append([target.name, target.wanted, target.found, "yes" if target.is_met else "NO"])
    return rows


def console() -> Console:
    """Return a console as wide as the tables."""
    made = Console()
    made.width = max(made.width, WIDTH)
    return made


def terminal(rows: Iterable[Row], title: str) -> Table:
    """Make a table for the terminal; the first row is its header."""
    header, *body = rows
    table = Table(title=title)
    for column in header:
        table.add_column(column, justify="left" if column in TEXT_COLUMNS else "right")
    for row in body:
        table.add_row(*row)
    return table


def markdown(rows: Iterable[Row]) -> str:
    """Make a table for a page, without a line's end behind it; the first row is its header."""
    header, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *body])
