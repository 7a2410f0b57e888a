"""What hostile patterns cost others: `python -m benchmarks.served.hostile --bundle FOLDER`.

A real server in a process of its own, and so many streams. Turns take turns: the streams alone, or
beside a caller who sends one pattern after another that cannot be compiled in time. The figures are
the streams' symbols a second in the second kind of turn as a part of that in the first, and how
long the caller waited for its errors.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.harness.process import running
from benchmarks.harness.settings import check_settings
from unroll.cli import run
from unroll.client.aio import AsyncClient
from unroll.errors import InputError, OverloadedError
from unroll.options import GenerateOptions
from unroll.ranges import Range

ENDLESS = 65536  # symbols
SENDERS = 8  # patterns at once


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HostileSettings:
    """Measure what hostile patterns cost others."""

    bundle: Path
    """The model to serve."""

    streams: Annotated[int, Range(1)] = 64
    """Streams at once."""

    patterns: Annotated[int, Range(1)] = 200
    """Patterns in all, beside them."""

    turns: Annotated[int, Range(1)] = 4
    """Turns of each kind; the patterns are shared out."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured."""

    alone: list[float]  # symbols a second of the streams, of each turn
    beside: list[float]  # likewise, beside hostile patterns
    waits: list[float]  # seconds until each pattern's error

    @property
    def kept(self) -> float:
        """Which part of their rate the streams keep, in the median turn."""
        return statistics.median(b / a for a, b in zip(self.alone, self.beside, strict=True))


def main() -> None:
    """Run the command line."""
    run(HostileSettings, report, name="python -m benchmarks.served.hostile")


def report(settings: HostileSettings) -> None:
    """Measure and print the figures."""
    check_settings(settings)
    found = measure(settings)
    print(
        f"{settings.streams} streams: {statistics.median(found.alone):,.0f} symbols/s alone, "
        f"{statistics.median(found.beside):,.0f} beside {len(found.waits)} hostile patterns: "
        f"{found.kept:.3f}; an error came after {statistics.median(found.waits):.2f} s, the last "
        f"after {max(found.waits):.2f} s"
    )


def measure(settings: HostileSettings) -> Found:
    """Start a server, measure and stop it."""
    with running("serving", "--model", str(settings.bundle)) as server:
        return asyncio.run(_measure(settings, server.target))


def hostile(number: int) -> str:
    """Return a pattern that nobody sent before, whose automaton or whose making is too large."""
    a, b, c = random.Random(number).sample(range(40, 99), 3)
    kinds = (
        f"(?:a?){{{2000 + a}}}a{{{2000 + b}}}",
        f"(?:[ab]{{1,{a}}}c?){{1,{b}}}",
        rf"(?:\w{{1,{a}}}\d{{0,{b}}}){{1,{c}}}",
        f"(a|b)*a(a|b){{{a}}}",
        f"((a{{0,{a}}}b?){{0,{b}}}c){{0,{c}}}",
        f"(x+x+)+y{{{a}{b}}}",
        "(" * (200 + a) + "é" + ")*" * (200 + a),
    )
    return f"{kinds[number % len(kinds)]}|é{{{number + 1}}}"  # whose last part makes it new


async def _measure(settings: HostileSettings, target: str) -> Found:
    found, numbers = Found(alone=[], beside=[], waits=[]), count()

    async def send() -> None:
        """Send patterns, one after another, and note how long each error took."""
        for _ in range(settings.patterns // settings.turns // SENDERS):
            options = GenerateOptions(pattern=hostile(next(numbers)), max_new_symbols=9)
            began = time.perf_counter()
            try:
                await client.generate("", options)
            except (InputError, OverloadedError):
                found.waits.append(time.perf_counter() - began)

    async with AsyncClient(target) as client:
        for _ in range(settings.turns):
            began = time.perf_counter()
            senders = asyncio.gather(*(send() for _ in range(SENDERS)))
            found.beside.append(await _rate(settings.streams, client, senders))
            rest = asyncio.sleep(time.perf_counter() - began)
            found.alone.append(await _rate(settings.streams, client, rest))
    return found


async def _rate(streams: int, client: AsyncClient, meanwhile: Awaitable[object]) -> float:
    """Return the streams' symbols a second while something else goes on."""
    counts = [0] * streams

    async def read(index: int) -> None:
        while True:  # a text that has ended is followed by another
            options = GenerateOptions(max_new_symbols=ENDLESS, seed=index)
            async with aclosing(client.stream("", options)) as stream:
                async for piece in stream:
                    counts[index] += len(piece.text)

    tasks = [asyncio.create_task(read(index)) for index in range(streams)]
    try:
        while not all(counts):
            await asyncio.sleep(0.01)
        before, began = sum(counts), time.perf_counter()
        await meanwhile
        return (sum(counts) - before) / (time.perf_counter() - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    main()
