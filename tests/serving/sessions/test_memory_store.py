"""What the store in memory forgets."""

import asyncio

import pytest

from serving.sessions.memory_store import MemoryStore
from serving.sessions.store import Found, Gone, Lease
from tests.serving.sessions.disk.stores import ANNA, new


def test_memory_evicts_the_least_recently_used_that_nobody_uses() -> None:
    async def scenario() -> None:
        store = MemoryStore(2)
        await store.create([new("a"), new("b")])
        lease = await store.begin("a", ANNA)
        assert isinstance(lease, Lease)
        await store.release(lease)
        await store.create([new("c")])
        assert await store.read("b", ANNA) is Gone.EVICTED
        assert isinstance(await store.begin("a", ANNA), Lease)
        await store.create([new("d")])
        assert isinstance(await store.read("a", ANNA), Found)
        assert await store.read("c", ANNA) is Gone.EVICTED
        assert (len(store), store.evicted) == (2, 2)

    asyncio.run(scenario())


def test_memory_forgets_the_oldest_fates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.sessions.memory_store.FATES_AT_MOST", 2)

    async def scenario() -> None:
        store = MemoryStore(9)
        for name in "abc":
            await store.create([new(name)])
            lease = await store.begin(name, ANNA)
            assert isinstance(lease, Lease)
            assert await store.end(lease)
        fates = [await store.read(name, ANNA) for name in "abc"]
        assert fates == [Gone.UNKNOWN, Gone.ENDED, Gone.ENDED]

    asyncio.run(scenario())
