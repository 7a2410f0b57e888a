"""Idle sessions: memory a session, time to open and to resume one, write and load rate of the disk.

The states are random numbers, as many as those of a GRU with one layer of 512; no model is needed.
"""

import asyncio
import gc
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from benchmarks.harness.machine import resident_bytes
from benchmarks.harness.settings import check_settings
from serving.engine.sequences.snapshot import NO_LOG_PROBS, SamplerState, Snapshot, StateLayout
from serving.runtime.sampling import SamplingParams
from serving.sessions.contents import CapsuleContents
from serving.sessions.disk.store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.session import Session
from unroll.bundle.manifest import BATCH, StateTensor
from unroll.cli import run
from unroll.errors import UnrollError
from unroll.ranges import Range

LAYOUT = StateLayout(
    [StateTensor(input="state_h", output="last_h", dtype="float32", shape=[1, BATCH, 512])],
    vocabulary_size=100,
)
FINGERPRINT, OWNER = "5e" * 32, bytes(16)
Figures = dict[str, float]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SessionsSettings:
    """Measure idle sessions in memory and on disk."""

    sessions: Annotated[int, Range(1)] = 100_000
    """Sessions to open in memory."""

    disk_sessions: Annotated[int, Range(1)] = 20_000
    """Sessions to write to disk."""

    sample: Annotated[int, Range(1)] = 2_000
    """Sessions to resume in each store and to compare bit for bit."""

    at_once: Annotated[int, Range(1)] = 64
    """Requests that the disk serves side by side."""


def main() -> None:
    """Run the command line."""
    run(SessionsSettings, report, name="python -m benchmarks.sessions.idle")


def report(settings: SessionsSettings) -> None:
    """Measure and print the figures."""
    check_settings(settings)
    for name, value in asyncio.run(measure(settings)).items():
        print(f"{name:24} {value:,.1f}")
    print("Every session of the samples came back bit for bit.")


async def measure(settings: SessionsSettings) -> Figures:
    """Measure both stores; the bytes of a session are those of its state, too."""
    figures = {"state bytes": LAYOUT.size, **await _measure_memory(settings)}
    with TemporaryDirectory() as folder:
        disk = DiskStore(Path(folder))
        figures |= await _measure_disk(settings, disk)
        await disk.close()
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return figures | {"disk bytes a session": size / settings.disk_sessions}


async def _measure_memory(settings: SessionsSettings) -> Figures:
    sessions = Sessions(MemoryStore(settings.sessions), {FINGERPRINT: LAYOUT})
    chosen, kept = _sample(settings, settings.sessions), {}
    gc.collect()
    before, seconds = resident_bytes(), 0.0
    for number in range(settings.sessions):
        contents = _contents()
        started = time.perf_counter()
        session = await sessions.start(OWNER, FINGERPRINT, contents)
        seconds += time.perf_counter() - started
        if number in chosen:
            kept[session.session_id] = contents
    gc.collect()
    grown, samples = resident_bytes() - before, []
    for session_id, contents in kept.items():
        started = time.perf_counter()
        found = await sessions.get(session_id, OWNER)
        samples.append((time.perf_counter() - started) * 1e6)
        _compare(found, contents)
    median, slow = map(float, np.quantile(samples, (0.5, 0.99)))
    return {
        "bytes a session": grown / settings.sessions,
        "us to open": seconds / settings.sessions * 1e6,
        "us to resume, median": median,
        "us to resume, 99th": slow,
    }


async def _measure_disk(settings: SessionsSettings, disk: DiskStore) -> Figures:
    sessions, total = Sessions(disk, {FINGERPRINT: LAYOUT}), settings.disk_sessions
    all_contents, ids = [_contents() for _ in range(total)], [""] * total

    async def write(first: int) -> None:
        for number in range(first, total, settings.at_once):
            started = await sessions.start(OWNER, FINGERPRINT, all_contents[number])
            ids[number] = started.session_id

    writing = await _together(write, settings.at_once)
    order = list(_sample(settings, total))

    async def load(first: int) -> None:
        for number in order[first :: settings.at_once]:
            _compare(await sessions.get(ids[number], OWNER), all_contents[number])

    loading = await _together(load, settings.at_once)
    return {"disk writes a second": total / writing, "disk loads a second": len(order) / loading}


async def _together(work: Callable[[int], Coroutine[None, None, None]], count: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(count)))
    return time.perf_counter() - started


def _sample(settings: SessionsSettings, total: int) -> set[int]:
    return set(Random(1).sample(range(total), min(settings.sample, total)))


def _contents() -> CapsuleContents:
    snapshot = Snapshot(
        position=secrets.randbelow(10**6),
        token=secrets.randbelow(66),
        state=np.random.default_rng().random(LAYOUT.size // 4, np.float32).tobytes(),
        held=np.zeros(0, np.int32),
        held_log_probs=NO_LOG_PROBS,
    )
    sampler = SamplerState(seed=secrets.randbelow(2**63), sampling=SamplingParams())
    return CapsuleContents(sampler=sampler, snapshot=snapshot)


def _compare(session: Session, contents: CapsuleContents) -> None:
    found = session.current
    if found.sampler != contents.sampler or found.snapshot.pack() != contents.snapshot.pack():
        raise UnrollError(f"session {session.session_id!r} did not come back bit for bit")


if __name__ == "__main__":
    main()
