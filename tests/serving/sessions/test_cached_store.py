"""Copies in memory of sessions that lie elsewhere."""

import asyncio
import secrets
import time
from pathlib import Path

import pytest

from serving.sessions.cached_store import CachedStore
from serving.sessions.disk.store import DiskStore
from serving.sessions.store import Change, Contents, Found, Gone, Lease, NewSession
from unroll.errors import StoreError

ANNA = b"a" * 16


def new(name: str) -> NewSession:
    return NewSession(name, ANNA, secrets.token_bytes(16), Contents(b"head", (name.encode(),)))


async def marks(store: CachedStore, name: str) -> tuple[bytes, ...]:
    found = await store.read(name, ANNA)
    assert isinstance(found, Found)
    assert found.contents is not None
    return found.contents.marks


def test_copies_beyond_the_limit_or_unused_for_long_leave_the_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = CachedStore(DiskStore(tmp_path), 2, 60.0)
        for name in "01234":
            await store.create([new(name)])
        assert (len(store), store.spilled, store.count()) == (2, 3, 5)
        assert [await marks(store, name) for name in "43210"] == [(n.encode(),) for n in "43210"]
        assert (store.loaded, len(store)) == (3, 2)
        store.spill(time.monotonic())
        assert len(store) == 0
        assert await marks(store, "4") == (b"4",)
        lease = await store.begin("0", ANNA)
        assert isinstance(lease, Lease)
        await store.end(lease)
        assert await store.read("0", ANNA) is Gone.ENDED
        await store.close()

    asyncio.run(scenario())


def test_sessions_that_nobody_changed_are_not_fetched_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = CachedStore(DiskStore(tmp_path), 9, 60.0)
        await store.create([new("a")])
        for number in range(3):
            lease = await store.begin("a", ANNA)
            assert isinstance(lease, Lease)
            tag = secrets.token_bytes(16)
            await store.commit(lease, Change(tag, b"head", 0, 1, (b"%d" % number,)))
            await marks(store, "a")
        assert store.loaded == 0
        await store.close()

    asyncio.run(scenario())


def test_commit_of_unknown_outcome_leaves_no_older_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        disk = DiskStore(tmp_path)
        store = CachedStore(disk, 9, 60.0)
        await store.create([new("a")])
        lease = await store.begin("a", ANNA)
        assert isinstance(lease, Lease)
        commit = disk.commit

        async def lost(lease: Lease, change: Change) -> bool:
            await commit(lease, change)
            raise StoreError("no answer came")

        monkeypatch.setattr(disk, "commit", lost)
        with pytest.raises(StoreError):
            await store.commit(lease, Change(secrets.token_bytes(16), b"head", 0, 1, (b"new",)))
        assert await marks(store, "a") == (b"a", b"new")
        await store.close()

    asyncio.run(scenario())
