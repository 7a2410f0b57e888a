"""What a second server process brings: `python -m benchmarks.served.processes --bundle FOLDER`.

A server of one process, one of several, and as many servers of one process each, which share
nothing, write the same texts in turn, all with one worker a process. The loads' generators take
processor time on the same machine, so the rates compare with a server of one process that has one
core, its generator with it: several on as many cores have as much for each. Beside that, the
servers' own time per symbol. What the several processes spend beyond one is the machine's (caches,
memory, clocks) as far as separate servers spend it too, and the price of sharing a port and
sessions beyond that.
"""

import multiprocessing
import os
import statistics
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from benchmarks.harness.process import ServerProcess, running, thread_seconds
from benchmarks.harness.settings import check_settings
from unroll.cli import run
from unroll.client.load.processes import run_load
from unroll.client.load.settings import LoadSettings, Mode
from unroll.errors import SettingsError
from unroll.ranges import Range

ONE, ON_ONE_CORE = "1 process", "1 process and its generator on one core"

CORE = 0

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
    """Of the server that is compared with a server of one; as many as the machine has cores."""

    clients: Annotated[int, Range(1)] = 48
    """For each process, each over a connection of its own. The system divides connections by
    chance: with as many clients as slots, 64, some texts would wait for one, and shorten runs."""

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
    run(ProcessesSettings, measure, name="python -m benchmarks.served.processes")


def measure(settings: ProcessesSettings) -> None:
    """Measure and print the figures."""
    check_settings(settings)
    N = settings.processes
    arguments = ("--model", str(settings.bundle), "--workers", "1", "--processes")
    found: defaultdict[tuple[str, str], list[Spent]] = defaultdict(list)
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        generators = stack.enter_context(ProcessPoolExecutor(N, spawn))
        of_one_core = stack.enter_context(
            ProcessPoolExecutor(1, spawn, os.sched_setaffinity, (0, {CORE}))
        )

        def start(processes: int, core: int | None = None) -> ServerProcess:
            return stack.enter_context(running("serving", *arguments, str(processes), core=core))

        # For each way, the server that each generator asks, and the generators.
        ways = {
            ONE: ([start(1)], generators),
            ON_ONE_CORE: ([start(1, CORE)], of_one_core),
            f"{N} processes": ([start(N)] * N, generators),
            f"{N} servers": ([start(1) for _ in range(N)], generators),
        }
        for _ in range(settings.rounds):
            for name in LOADS:
                for way, (servers, of) in ways.items():
                    found[name, way].append(_spent(settings, servers, name, of))
    for name in LOADS:
        print(name)
        medians = {way: _median(found[name, way]) for way in ways}
        one, on_one_core = medians[ONE], medians[ON_ONE_CORE]
        for way, spent in medians.items():
            line = (
                f"  {way}: {spent.rate:,.0f} symbols/s; microseconds of processor a symbol: event "
                f"loops {spent.loops:.2f}, all other threads {spent.engines:.2f}, the generators "
                f"{spent.generator:.2f}"
            )
            if way not in (ONE, ON_ONE_CORE):
                line += (
                    f"; {spent.rate / on_one_core.rate:.2f} of one on one core; by the servers' "
                    f"own time {N * one.servers / spent.servers:.2f} of one"
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
    written = sum(tally.symbols_per_second * tally.seconds for tally in tallies)
    if not written:
        raise SettingsError("no text was written in a round; give it more --seconds")
    each = 1e6 / written
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
