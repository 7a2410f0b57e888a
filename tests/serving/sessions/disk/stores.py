"""What the tests of stores on a disk share."""

import asyncio
import multiprocessing
import os
import secrets
import signal
from pathlib import Path

from serving.sessions.disk.store import DiskStore
from serving.sessions.store import Change, Contents, Lease, NewSession

ANNA, BERT = b"a" * 16, b"b" * 16


def new(name: str, mark: bytes = b"mark") -> NewSession:
    return NewSession(name, ANNA, secrets.token_bytes(16), Contents(b"head", (mark,)))


def change(*marks: bytes) -> Change:
    return Change(secrets.token_bytes(16), b"head", 0, 0, marks)


async def begin(store: DiskStore, name: str) -> Lease:
    begun = await store.begin(name, ANNA)
    assert isinstance(begun, Lease), begun
    return begun


def hold(folder: Path, is_held: "multiprocessing.synchronize.Event") -> None:
    """Take a lease in a process of its own, and never give it back."""

    async def scenario() -> None:
        store = DiskStore(folder)
        await store.create([new("a")])
        await begin(store, "a")
        is_held.set()
        await asyncio.Event().wait()

    asyncio.run(scenario())


def lock(folder: Path) -> None:
    """Lock a folder as version 0.1 did."""
    import fcntl  # another process

    descriptor = os.open(folder / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / "locked").touch()
    signal.pause()
