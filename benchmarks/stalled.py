"""What one reader that stalls costs the others: `python -m benchmarks.stalled --bundle FOLDER`.

A real server in a process of its own, and so many streams. Turns take turns: all read, or one stops
reading after its first message. The figure is the others' symbols a second in the second kind of
turn, as a part of that in the first.
"""

import asyncio
import statistics
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc
from cyclopts import Parameter

from benchmarks.process import running
from benchmarks.settings import check_settings
from unroll.cli import run
from unroll.client.aio import AsyncClient
from unroll.options import GenerateOptions
from unroll.ranges import Range

# A connection that holds a few hundred symbols, not many thousands.
NARROW = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
ENDLESS = 65536  # symbols
FILL_SECONDS = 1.0  # for the stalled one to fill what holds its text


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StalledSettings:
    """Measure what one reader that stalls costs the others."""

    bundle: Path
    """The model to serve."""

    streams: Annotated[int, Range(2)] = 64
    """Streams at once, the stalled one included."""

    seconds: Annotated[float, Range(above=0)] = 5.0
    """How long each turn is counted."""

    turns: Annotated[int, Range(1)] = 5
    """Turns of each kind."""


def main() -> None:
    """Run the command line."""
    run(StalledSettings, report, name="python -m benchmarks.stalled")


def report(settings: StalledSettings) -> None:
    """Measure and print the figures."""
    check_settings(settings)
    reading, stalled = measure(settings)
    print(
        f"{settings.streams - 1} streams: {reading:,.0f} symbols/s with one more that reads, "
        f"{stalled:,.0f} with one that stalls: {stalled / reading:.3f}"
    )


def measure(settings: StalledSettings) -> tuple[float, float]:
    """Start a server, measure and stop it.

    Returns:
        Symbols a second of all streams but one, medians of the turns: while that one reads, too,
        and while it has stopped reading.
    """
    arguments = ("--model", str(settings.bundle), "--buffer-symbols", "128")
    rates: dict[bool, list[float]] = {False: [], True: []}
    with running("serving", *arguments) as server:
        for _ in range(settings.turns):
            for stalls, found in rates.items():
                found.append(asyncio.run(_turn(settings, server.target, stalls=stalls)))
    return statistics.median(rates[False]), statistics.median(rates[True])


async def _turn(settings: StalledSettings, address: str, *, stalls: bool) -> float:
    """Return the symbols a second of all streams but the last."""
    counts = [0] * settings.streams
    last = settings.streams - 1
    narrow = grpc.aio.insecure_channel(address, options=NARROW)
    async with AsyncClient(address) as client, AsyncClient(channel=narrow) as slow:

        async def read(index: int) -> None:
            options = GenerateOptions(max_new_symbols=ENDLESS, seed=index)
            while True:  # a text that has ended is followed by another
                async with aclosing(
                    (slow if index == last else client).stream("", options)
                ) as stream:
                    async for piece in stream:
                        counts[index] += len(piece.text)
                        if index == last and stalls:
                            await asyncio.Event().wait()

        tasks = [asyncio.create_task(read(index)) for index in range(settings.streams)]
        try:
            while not all(counts):
                await asyncio.sleep(0.01)
            await asyncio.sleep(FILL_SECONDS)
            before, began = sum(counts[:last]), time.perf_counter()
            await asyncio.sleep(settings.seconds)
            return (sum(counts[:last]) - before) / (time.perf_counter() - began)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    main()
