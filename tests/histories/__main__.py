"""Command line of the histories: `python -m tests.histories --help`."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from tests.histories.history import make_history
from unroll.cli import run
from unroll.errors import UnrollError
from unroll.ranges import Range, check_ranges


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HistorySettings:
    """Let clients use sessions of three servers over one store while both are harmed."""

    minutes: Annotated[float, Range(above=0)] = 1.0
    """For which faults come."""

    seed: Annotated[int, Range(0)] = 1
    """Of the plan of clients and faults."""

    planted: str = ""
    """`lease` or `tag` for servers that do not check it, `counter` for tags that are counted,
    `rewind` or `fork` for such calls that use a server's own copy, however old: the history must be
    found wrong, and its first violation is the end."""

    faults: tuple[str, ...] = ()
    """Kinds that come, as the report calls them; all by default."""


def main() -> None:
    """Run the command line."""
    run(HistorySettings, report, name="python -m tests.histories")


def report(settings: HistorySettings) -> None:
    """Make a history and print what was seen.

    Raises:
        UnrollError: it cannot be true.
    """
    from benchmarks.harness.models import exported, random_checkpoint  # torch; clients do without

    check_ranges(settings)
    model = exported(random_checkpoint("gru-24x1", 31), "fp32")
    with model as bundle, TemporaryDirectory() as folder:
        seconds = 60 * settings.minutes
        history = make_history(
            bundle.folder, Path(folder), seconds, seed=settings.seed, planted=settings.planted,
            kinds=settings.faults,
        )  # fmt: skip
    for name, count in history.counts().items():
        print(f"{name:24} {count:10,}")
    if history.wrong:
        raise UnrollError("the history cannot be true:\n  " + "\n  ".join(history.wrong[:20]))


if __name__ == "__main__":
    main()
