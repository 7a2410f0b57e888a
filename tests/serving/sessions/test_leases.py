"""A session is one request's at a time, however that request ends."""

import asyncio
import gc

import pytest

from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.store import Busy, Change, Gone, Lease
from tests.serving.sessions.registries import ANNA, FINGERPRINT, LAYOUT, REQUEST, contents
from unroll.errors import (
    SessionBusyError,
    StoreError,
)


class Slow(MemoryStore):
    """A store that begins, commits and ends only when it is told to."""

    def __init__(self) -> None:
        super().__init__(10)
        self.go = asyncio.Event()

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        await self.go.wait()
        return await super().begin(session_id, owner, known)

    async def commit(self, lease: Lease, change: Change) -> bool:
        await self.go.wait()
        return await super().commit(lease, change)


def test_cancelled_request_leaves_no_lease() -> None:
    async def scenario() -> None:
        store = Slow()
        made = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        waiting = asyncio.create_task(made.use(session_id, ANNA).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.go.set()
        await made.settle()
        async with made.use(session_id, ANNA):
            assert made.in_use == 1
        assert made.in_use == 0

    asyncio.run(scenario())


def test_failure_that_a_cancelled_request_left_behind_is_no_accident(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away(Slow):
        async def begin(
            self, session_id: str, owner: bytes, known: bytes = b""
        ) -> Lease | Busy | Gone:
            await super().begin(session_id, owner, known)
            raise StoreError("away")

    async def scenario() -> None:
        store = Away()
        made = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        waiting = asyncio.create_task(made.use(session_id, ANNA).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.go.set()
        while made._leases._finishing:
            await asyncio.sleep(0)

    asyncio.run(scenario())
    gc.collect()  # which reports the exceptions that nobody has seen
    assert not caplog.records


def test_commit_that_has_begun_is_finished_though_its_request_is_cancelled() -> None:
    async def scenario() -> None:
        store = Slow()
        made = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        store.go.set()

        async def answer() -> None:
            async with made.use(session_id, ANNA) as session:
                store.go.clear()
                await made.advance(session, contents(5), REQUEST)

        answering = asyncio.create_task(answer())
        while store.go.is_set():
            await asyncio.sleep(0)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        store.go.set()
        await made.settle()
        async with made.use(session_id, ANNA) as session:
            assert session.position == 5

    asyncio.run(scenario())


def test_session_that_another_server_took_over_is_not_written() -> None:
    async def scenario() -> None:
        store = MemoryStore(10)
        here, there = (Sessions(store, {FINGERPRINT: LAYOUT}) for _ in range(2))
        session_id = (await here.start(ANNA, FINGERPRINT, contents(0))).session_id
        async with here.use(session_id, ANNA) as session:
            store._leases.clear()  # it has ended
            async with there.use(session_id, ANNA) as other:
                await there.advance(other, contents(7), REQUEST)
            with pytest.raises(SessionBusyError, match="taken over by another server"):
                await here.advance(session, contents(5), REQUEST)
        assert (await here.get(session_id, ANNA)).position == 7

    asyncio.run(scenario())


def test_session_that_another_server_took_over_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        store = MemoryStore(10)
        made = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        end = store.end

        async def late(lease: Lease) -> bool:
            store._leases[session_id] = bytes(16)  # another server's
            return await end(lease)

        monkeypatch.setattr(store, "end", late)
        with pytest.raises(SessionBusyError, match="taken over by another server"):
            await made.end(session_id, ANNA)
        assert made.gone[Gone.ENDED] == 0
        assert (await made.get(session_id, ANNA)).position == 0

    asyncio.run(scenario())


def test_lease_is_renewed_for_as_long_as_the_answer_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        store = MemoryStore(10)
        store.lease_seconds = 0.003
        renewed = asyncio.Semaphore(0)
        renew = store.renew

        async def counted(lease: Lease) -> bool:
            renewed.release()
            return await renew(lease)

        monkeypatch.setattr(store, "renew", counted)
        made = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        async with made.use(session_id, ANNA):
            for _ in range(3):
                await asyncio.wait_for(renewed.acquire(), 20)
        await made.settle()

    asyncio.run(scenario())


def test_commit_that_the_store_refuses_is_told_before_its_lease_is_given_back() -> None:
    """A store that is away answers neither, and its time-out must not be waited for twice."""

    class Refusing(MemoryStore):
        async def commit(self, lease: Lease, change: Change) -> bool:
            raise StoreError("away")

    async def scenario() -> None:
        store, back = Refusing(10), asyncio.Event()
        release = store.release

        async def late(lease: Lease) -> None:
            await back.wait()
            await release(lease)

        store.release = late  # type: ignore[method-assign]  # stands in for a slow one
        made = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        async with asyncio.timeout(60):
            with pytest.raises(StoreError, match="away"):
                async with made.use(session_id, ANNA) as session:
                    await made.advance(session, contents(5), REQUEST)
        with pytest.raises(SessionBusyError):
            await made.use(session_id, ANNA).__aenter__()
        back.set()
        await made.settle()
        async with made.use(session_id, ANNA) as session:
            assert session.position == 0

    asyncio.run(scenario())
