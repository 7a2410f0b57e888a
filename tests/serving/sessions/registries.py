"""Registries of sessions, and what the tests of them share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from serving.engine.sequences.snapshot import SamplerState, Snapshot, StateLayout
from serving.runtime.sampling import SamplingParams
from serving.sessions.contents import CapsuleContents
from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.session import Session, digest_of
from unroll.bundle.manifest import BATCH, StateTensor

V = 7


LAYOUT = StateLayout([StateTensor(input="h", output="g", dtype="float32", shape=[1, BATCH, 4])], V)


FINGERPRINT, ANNA, BERT = "ab" * 32, b"a" * 16, b"b" * 16


REQUEST = digest_of(b"request")


def contents(position: int, held: int = 0) -> CapsuleContents:
    snapshot = Snapshot(
        position=position,
        token=position % V,
        state=np.full(4, position, "<f4").tobytes(),
        held=np.arange(held, dtype=np.int32),
        held_log_probs=np.arange(held, dtype=np.float32),
    )
    return CapsuleContents(
        sampler=SamplerState(seed=5, sampling=SamplingParams()), snapshot=snapshot
    )


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sessions(clock: Clock | None = None, *, marks: int = 4, idle: float = 0.0) -> Sessions:
    store = MemoryStore(100, idle)
    store.now = clock or Clock()
    return Sessions(store, {FINGERPRINT: LAYOUT}, marks=marks, idle_seconds=idle)


@asynccontextmanager
async def advanced(made: Sessions, *positions: int) -> AsyncIterator[Session]:
    """Start a session at 0, answer some requests in it and use it once more."""
    started = await made.start(ANNA, FINGERPRINT, contents(0))
    for position in positions:
        async with made.use(started.session_id, ANNA) as session:
            await made.advance(session, contents(position), digest_of(b"%d" % position))
    async with made.use(started.session_id, ANNA) as session:
        yield session
