"""What one reader that stalls costs the others: `python -m benchmarks.stalled --bundle FOLDER`.

A real server in a process of its own, and so many streams. Turns take turns: all read, or one stops
reading after its first message. The figure is the others' symbols a second in the second kind of
turn, as a part of that in the first.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from cyclopts import Parameter

from unroll.cli import run
from unroll.client.aio import AsyncClient
from unroll.client.options import GenerateOptions
from unroll.errors import SettingsError

PORT_SECONDS = 60.0
# A connection that holds a few hundred symbols, not many thousands.
NARROW = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
ENDLESS = 65536  # symbols


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StalledSettings:
    """Measure what one reader that stalls costs the others."""

    bundle: Path
    """The model to serve."""

    streams: int = 64
    """Streams at once, the stalled one included."""

    seconds: float = 5.0
    """How long each turn is counted."""

    turns: int = 5
    """Turns of each kind."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured.

    Attributes:
        all_reading: symbols a second of all streams but one while that one reads, too; medians.
        one_stalled: the same while that one has stopped reading.
    """

    all_reading: float
    one_stalled: float

    @property
    def kept(self) -> float:
        """The part of their rate that the others keep."""
        return self.one_stalled / self.all_reading


def main() -> None:
    """Run the command line."""
    run(StalledSettings, report, name="python -m benchmarks.stalled")


def report(settings: StalledSettings) -> None:
    """Measure and print the figures."""
    if settings.streams < 2 or settings.turns < 1 or not settings.seconds > 0:
        raise SettingsError("streams, turns, seconds: must be 2 or more, 1 or more, above 0")
    figures = measure(settings)
    print(
        f"{settings.streams - 1} streams: {figures.all_reading:,.0f} symbols/s with one more that "
        f"reads, {figures.one_stalled:,.0f} with one that stalls: {figures.kept:.3f}"
    )


def measure(settings: StalledSettings) -> Figures:
    """Start a server, measure and stop it."""
    with TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "serving", "--model", str(settings.bundle)]
        command += ["--port", "0", "--port-file", str(port_file), "--buffer-symbols", "128"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                return asyncio.run(_turns(settings, _address(port_file)))
            finally:
                server.kill()


def _address(port_file: Path) -> str:
    ends = time.monotonic() + PORT_SECONDS
    while not port_file.exists():
        if time.monotonic() > ends:
            raise SettingsError(f"bundle: no server was ready within {PORT_SECONDS:g} s")
        time.sleep(0.05)
    return f"127.0.0.1:{port_file.read_text(encoding='ascii').strip()}"


async def _turns(settings: StalledSettings, address: str) -> Figures:
    rates: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * settings.turns):
        stalls = bool(turn % 2)
        rates[stalls].append(await _turn(settings, address, stalls=stalls))
    return Figures(
        all_reading=statistics.median(rates[False]), one_stalled=statistics.median(rates[True])
    )


async def _turn(settings: StalledSettings, address: str, *, stalls: bool) -> float:
    """Return the symbols a second of all streams but the last."""
    counts = [0] * settings.streams
    narrow = grpc.aio.insecure_channel(address, options=NARROW)
    async with (
        AsyncClient(address) as client,
        AsyncClient(channel=narrow) as slow,
        _reading(client, slow, counts, stalls=stalls),
    ):
        while not all(counts):
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)  # for the stalled one to fill what holds its text
        before, began = sum(counts[:-1]), time.perf_counter()
        await asyncio.sleep(settings.seconds)
        return (sum(counts[:-1]) - before) / (time.perf_counter() - began)


@asynccontextmanager
async def _reading(
    client: AsyncClient, slow: AsyncClient, counts: list[int], *, stalls: bool
) -> AsyncIterator[None]:
    async def read(index: int) -> None:
        is_last = index == len(counts) - 1
        options = GenerateOptions(max_new_symbols=ENDLESS, seed=index)
        while True:  # a text that has ended is followed by another
            async with aclosing((slow if is_last else client).stream("", options)) as stream:
                async for piece in stream:
                    counts[index] += len(piece.text)
                    if is_last and stalls:
                        await asyncio.Event().wait()

    tasks = [asyncio.create_task(read(index)) for index in range(len(counts))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    main()
