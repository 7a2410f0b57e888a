"""What a second server process brings: `python -m benchmarks.processes --bundle FOLDER`.

A server of one process and one of several, with one worker each, write the same texts in turn. The
load's generator takes processor time on the same machine, so what counts is the servers' own per
symbol: if several processes spend on a symbol what one does, each further core brings as much as
the first. The rates are told beside it, with the generator's share.
"""

import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from benchmarks.process import ServerProcess, running, thread_seconds
from benchmarks.settings import check_settings
from unroll.cli import run
from unroll.client.load.processes import run_load
from unroll.client.load.settings import LoadSettings, Mode
from unroll.ranges import Range

# Name of a load: how texts are asked for, and their symbols.
LOADS = {
    "long texts": (Mode.UNARY, 400),
    "short texts": (Mode.UNARY, 35),
    "streams": (Mode.STREAM, 200),
}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ProcessesSettings:
    """Measure what several server processes spend on a symbol, beside one."""

    bundle: Path
    """The model to serve."""

    processes: Annotated[int, Range(2)] = 2
    """Of the server that is compared with a server of one."""

    clients: Annotated[int, Range(1)] = 64
    """For each process, so that its batches are as full; each over a connection of its own."""

    seconds: Annotated[float, Range(above=0)] = 5.0
    """Of each load in each round."""

    rounds: Annotated[int, Range(1)] = 5
    """Of which the median counts."""


class Spent(NamedTuple):
    """What one load cost: symbols a second, and microseconds of processor time a symbol."""

    rate: float
    loops: float
    engines: float
    generator: float

    @property
    def servers(self) -> float:
        """Of all their threads."""
        return self.loops + self.engines


def main() -> None:
    """Run the command line."""
    run(ProcessesSettings, measure, name="python -m benchmarks.processes")


def measure(settings: ProcessesSettings) -> None:
    """Measure and print the figures."""
    check_settings(settings)
    counts = (1, settings.processes)
    arguments = ("--model", str(settings.bundle), "--workers", "1", "--processes")
    found: defaultdict[tuple[str, int], list[Spent]] = defaultdict(list)
    with ExitStack() as stack:
        servers = {
            count: stack.enter_context(running("serving", *arguments, str(count)))
            for count in counts
        }
        for _ in range(settings.rounds):
            for name in LOADS:
                for count, server in servers.items():
                    found[name, count].append(_spent(settings, server, name, count))
    for name in LOADS:
        one, several = (_median(found[name, count]) for count in counts)
        print(name)
        for count, spent in zip(counts, (one, several), strict=True):
            print(
                f"  {count} process{'es' * (count > 1)}: {spent.rate:,.0f} symbols/s; "
                f"microseconds of processor a symbol: event loops {spent.loops:.2f}, all other "
                f"threads {spent.engines:.2f}, the generator {spent.generator:.2f}"
            )
        print(
            f"  {settings.processes} on as many cores of their own bring "
            f"{settings.processes * one.servers / several.servers:.2f} of one; here, with the "
            f"generator beside them, {several.rate / one.rate:.2f}; one process's event loop is "
            f"full when its workers use {one.engines / one.loops:.1f} cores"
        )


def _spent(settings: ProcessesSettings, server: ServerProcess, name: str, processes: int) -> Spent:
    mode, symbols = LOADS[name]
    load = LoadSettings(
        target=server.target, clients=settings.clients * processes, mode=mode,
        seconds=settings.seconds, warm_up=0.0, new_symbols=symbols,
    )  # fmt: skip
    before = _seconds(server)
    tally = run_load(load)
    after = _seconds(server)
    loops, engines = after[0] - before[0], after[1] - before[1]
    received = tally.symbols_per_second * tally.seconds
    each = 1e6 / received
    return Spent(tally.symbols_per_second, loops * each, engines * each, tally.busy_seconds * each)


def _seconds(server: ServerProcess) -> tuple[float, float]:
    """Return the processor time of the first threads, which run the event loops, and of others."""
    loops = engines = 0.0
    for process in _with_children(server.process_id):
        seconds = thread_seconds(process)
        loops += seconds[process]
        engines += sum(seconds.values()) - seconds[process]
    return loops, engines


def _with_children(process: int) -> list[int]:
    lists = (path.read_text("ascii") for path in Path(f"/proc/{process}/task").glob("*/children"))
    return [process, *(int(child) for each in lists for child in each.split())]


def _median(found: list[Spent]) -> Spent:
    return Spent(*map(statistics.median, zip(*found, strict=True)))


if __name__ == "__main__":
    main()
