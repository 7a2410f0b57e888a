"""What a second server process brings: `python -m benchmarks.processes --bundle FOLDER`.

A server of one process, one of several, and as many servers of one process each, which share
nothing, write the same texts in turn, all with one worker a process. The loads' generators take
processor time on the same machine, so what counts is the servers' own per symbol. What the several
processes spend beyond one is the machine's (caches, memory, clocks) as far as separate servers
spend it too, and the price of sharing a port and sessions beyond that.
"""

import multiprocessing
import statistics
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
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

ONE = "1 process"

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
    N = settings.processes
    arguments = ("--model", str(settings.bundle), "--workers", "1", "--processes")
    found: defaultdict[tuple[str, str], list[Spent]] = defaultdict(list)
    with ExitStack() as stack:
        generators = stack.enter_context(
            ProcessPoolExecutor(N, mp_context=multiprocessing.get_context("spawn"))
        )

        def start(processes: int) -> ServerProcess:
            return stack.enter_context(running("serving", *arguments, str(processes)))

        # For each way, the server that each generator asks.
        ways = {
            ONE: [start(1)],
            f"{N} processes": [start(N)] * N,
            f"{N} servers": [start(1) for _ in range(N)],
        }
        for _ in range(settings.rounds):
            for name in LOADS:
                for way, servers in ways.items():
                    found[name, way].append(_spent(settings, servers, name, generators))
    for name in LOADS:
        print(name)
        medians = {way: _median(found[name, way]) for way in ways}
        one = medians[ONE]
        for way, spent in medians.items():
            line = (
                f"  {way}: {spent.rate:,.0f} symbols/s; microseconds of processor a symbol: event "
                f"loops {spent.loops:.2f}, all other threads {spent.engines:.2f}, the generators "
                f"{spent.generator:.2f}"
            )
            if way != ONE:
                line += (
                    f"; on as many cores of their own {N * one.servers / spent.servers:.2f} of "
                    f"one, here, beside the generators, {spent.rate / one.rate:.2f}"
                )
            print(line)
        print(
            f"  one process's event loop is full when its workers use "
            f"{one.engines / one.loops:.1f} cores"
        )


def _spent(
    settings: ProcessesSettings,
    servers: list[ServerProcess],
    name: str,
    generators: ProcessPoolExecutor,
) -> Spent:
    """Load the servers, each from a generator of its own."""
    mode, symbols = LOADS[name]
    loads = [
        LoadSettings(
            target=server.target, clients=settings.clients, mode=mode,
            seconds=settings.seconds, warm_up=0.0, new_symbols=symbols,
        )
        for server in servers
    ]  # fmt: skip
    distinct = {server.process_id: server for server in servers}.values()
    before = [_seconds(server) for server in distinct]
    tallies = list(generators.map(run_load, loads))
    after = [_seconds(server) for server in distinct]
    loops, engines = (
        sum(now[k] - then[k] for then, now in zip(before, after, strict=True)) for k in (0, 1)
    )
    rate = sum(tally.symbols_per_second for tally in tallies)
    each = 1e6 / sum(tally.symbols_per_second * tally.seconds for tally in tallies)
    return Spent(
        rate, loops * each, engines * each, sum(tally.busy_seconds for tally in tallies) * each
    )


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
