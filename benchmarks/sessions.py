"""Idle sessions: memory a session, time to open and to resume one, write and load rate of the disk.

The states are random bytes of the size of a GRU's with one layer of 512; no model is needed.
"""

import asyncio
import gc
import json
import os
import platform
import secrets
import sqlite3
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
from cyclopts import Parameter
from rich.console import Console

from serving.engine.snapshot import NO_LOG_PROBS, SamplerState, Snapshot, StateLayout
from serving.runtime.sampling import SamplingParams
from serving.sessions.capsule import CapsuleContents
from serving.sessions.disk_store import DiskStore
from serving.sessions.registry import Session, Sessions
from serving.sessions.store import MemoryStore, SessionStore
from unroll.bundle.manifest import BATCH, StateTensor
from unroll.cli import run
from unroll.errors import SettingsError, UnrollError

LAYOUT = StateLayout(
    [StateTensor(input="state_h", output="last_h", dtype="float32", shape=[1, BATCH, 512])],
    vocabulary_size=100,
)
FINGERPRINT, OWNER = "5e" * 32, bytes(16)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SessionsSettings:
    """Measure idle sessions in memory and on disk."""

    sessions: int = 100_000
    """Sessions to open in memory."""

    disk_sessions: int = 20_000
    """Sessions to write to disk."""

    sample: int = 2_000
    """Sessions to resume in each store and to compare bit for bit."""

    at_once: int = 64
    """Requests that the disk serves side by side."""

    json: Path | None = None
    """Where to write machine, versions and figures."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured.

    Attributes:
        state_bytes: the recurrent state of one session.
        bytes_a_session: of the process's memory, the state included.
        open_microseconds: to open one in memory, on average.
        resume_microseconds: to find one in memory and unpack it: median and 99th percentile.
        disk_writes_a_second: sessions opened on disk, many at once.
        disk_loads_a_second: sessions found on disk, many at once.
        disk_bytes_a_session: of the database, the state included.
    """

    state_bytes: int
    bytes_a_session: float
    open_microseconds: float
    resume_microseconds: tuple[float, float]
    disk_writes_a_second: float
    disk_loads_a_second: float
    disk_bytes_a_session: float


def main() -> None:
    """Run the command line."""
    run(SessionsSettings, measure, name="python -m benchmarks.sessions")


def measure(settings: SessionsSettings) -> None:
    """Measure, print and, if asked for, write the figures."""
    for name in ("sessions", "disk_sessions", "sample", "at_once"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{name} = {getattr(settings, name)}: must be 1 or more")
    figures = asyncio.run(_measure(settings))
    console = Console()
    for name, value in asdict(figures).items():
        shown = value if isinstance(value, tuple) else (value,)
        console.print(f"{name.replace('_', ' '):24}", *(f"{number:,.1f}" for number in shown))
    console.print("Every session of the samples came back bit for bit.")
    if settings.json is not None:
        machine = {
            "processor": f"{os.cpu_count()} x {platform.machine()}",
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        }
        record = {"machine": machine, "settings": asdict(settings) | {"json": None}}
        settings.json.write_text(json.dumps(record | {"figures": asdict(figures)}, indent=1) + "\n")


async def _measure(settings: SessionsSettings) -> Figures:
    per_session, opening, resuming = await _measure_memory(settings)
    with TemporaryDirectory() as folder:
        disk = DiskStore(Path(folder))
        writes, loads = await _measure_disk(settings, disk)
        disk.close()
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return Figures(
        state_bytes=LAYOUT.size,
        bytes_a_session=per_session,
        open_microseconds=opening * 1e6,
        resume_microseconds=resuming,
        disk_writes_a_second=writes,
        disk_loads_a_second=loads,
        disk_bytes_a_session=size / settings.disk_sessions,
    )


async def _measure_memory(
    settings: SessionsSettings,
) -> tuple[float, float, tuple[float, float]]:
    sessions = _sessions(MemoryStore(settings.sessions))
    chosen = set(Random(1).sample(range(settings.sessions), _sample(settings, settings.sessions)))
    kept = {}
    gc.collect()
    before, seconds = _resident_bytes(), 0.0
    for number in range(settings.sessions):
        contents = _contents()
        started = time.perf_counter()
        session = await sessions.start(OWNER, FINGERPRINT, contents)
        seconds += time.perf_counter() - started
        if number in chosen:
            kept[session.session_id] = contents
    gc.collect()
    per_session = (_resident_bytes() - before) / settings.sessions
    samples = []
    for session_id, contents in kept.items():
        started = time.perf_counter()
        found = await sessions.get(session_id, OWNER)
        samples.append((time.perf_counter() - started) * 1e6)
        _compare(found, contents)
    worst = sorted(samples)[int(0.99 * len(samples))]
    return per_session, seconds / settings.sessions, (statistics.median(samples), worst)


async def _measure_disk(settings: SessionsSettings, disk: DiskStore) -> tuple[float, float]:
    sessions, total = _sessions(disk), settings.disk_sessions
    all_contents = [_contents() for _ in range(total)]
    ids = [""] * total

    async def write(first: int) -> None:
        for number in range(first, total, settings.at_once):
            started = await sessions.start(OWNER, FINGERPRINT, all_contents[number])
            ids[number] = started.session_id

    seconds = await _together(write, settings.at_once)
    order = Random(2).sample(range(total), _sample(settings, total))

    async def load(first: int) -> None:
        for number in order[first :: settings.at_once]:
            _compare(await sessions.get(ids[number], OWNER), all_contents[number])

    loading = await _together(load, settings.at_once)
    return total / seconds, len(order) / loading


async def _together(work: Callable[[int], Coroutine[None, None, None]], count: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(count)))
    return time.perf_counter() - started


def _sample(settings: SessionsSettings, total: int) -> int:
    return min(settings.sample, total)


def _sessions(store: SessionStore) -> Sessions:
    return Sessions(store, {FINGERPRINT: LAYOUT})


def _contents() -> CapsuleContents:
    snapshot = Snapshot(
        position=secrets.randbelow(10**6),
        token=secrets.randbelow(66),
        state=secrets.token_bytes(LAYOUT.size),
        held=np.zeros(0, np.int32),
        held_log_probs=NO_LOG_PROBS,
    )
    sampler = SamplerState(seed=secrets.randbelow(2**63), sampling=SamplingParams())
    return CapsuleContents(sampler=sampler, snapshot=snapshot)


def _compare(session: Session, contents: CapsuleContents) -> None:
    found = session.current
    if found.sampler != contents.sampler or found.snapshot.pack() != contents.snapshot.pack():
        raise UnrollError(f"session {session.session_id!r} did not come back bit for bit")


def _resident_bytes() -> int:
    """Return the process's memory, as Linux counts it."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
