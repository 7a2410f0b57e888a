"""Sessions between store and service: marks, ownership, expiry, what a record takes."""

import asyncio
import gc
import secrets
import struct
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.sequences.snapshot import SamplerState, Snapshot, StateLayout
from serving.runtime.sampling import SamplingParams
from serving.sessions.contents import CapsuleContents
from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.session import Session, digest_of, write_mark
from serving.sessions.store import Busy, Change, Contents, Found, Gone, Lease, NewSession
from unroll.bundle.manifest import BATCH, StateTensor
from unroll.errors import (
    InputError,
    PositionError,
    SessionBusyError,
    SessionEndedError,
    SessionExpiredError,
    SessionUnknownError,
    StoreError,
    UnknownModelError,
)

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


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 5)), min_size=1, max_size=6))
def test_all_of_a_session_is_kept(marks: list[tuple[int, int]]) -> None:
    async def scenario() -> None:
        made = sessions(marks=9)
        started = await made.start(ANNA, FINGERPRINT, contents(*marks[0]))
        for mark in marks[1:]:
            async with made.use(started.session_id, ANNA) as session:
                await made.advance(session, contents(*mark), REQUEST)
                told = session
        found = await made.get(started.session_id, ANNA)
        if marks[1:]:
            assert found.head() == told.head()
            assert [*map(write_mark, found.marks)] == [*map(write_mark, told.marks)]
        assert [(m.snapshot.position, len(m.snapshot.held)) for m in found.marks] == marks
        assert (found.created, found.idle, found.owner) == (started.created, 0.0, ANNA)

    asyncio.run(scenario())


def test_marks_are_bounded_and_rewound_to() -> None:
    async def scenario() -> None:
        made = sessions(marks=3)
        async with advanced(made, 10, 20, 30) as session:
            assert [mark.snapshot.position for mark in session.marks] == [10, 20, 30]
            with pytest.raises(InputError, match=r"position: must be one of .*\[10, 20, 30\]"):
                await made.rewind(session, 0)
            await made.rewind(session, 20)
        found = await made.get(session.session_id, ANNA)
        assert found.position == 20
        assert found.current.snapshot.state == contents(20).snapshot.state
        assert found.last_request == bytes(16)

    asyncio.run(scenario())


def test_origin_of_first_repeated_and_late_requests() -> None:
    async def scenario() -> None:
        async with advanced(sessions(), 10, 20) as session:
            last = digest_of(b"20")
            for expected in (None, 20):
                found, is_repeated = session.origin(expected, last)
                assert (found.snapshot.position, is_repeated) == (20, False)
            found, is_repeated = session.origin(10, last)
            assert (found.snapshot.position, is_repeated) == (10, True)
            for expected, digest in ((10, REQUEST), (0, last), (0, digest_of(b"10")), (30, last)):
                with pytest.raises(PositionError) as caught:
                    session.origin(expected, digest)
                assert caught.value.actual == 20

    asyncio.run(scenario())


def test_nobody_else_gets_in_while_it_is_used() -> None:
    async def scenario() -> None:
        made = sessions()
        async with advanced(made) as session:
            with pytest.raises(SessionBusyError):
                async with made.use(session.session_id, ANNA):
                    raise AssertionError
            with pytest.raises(SessionBusyError):
                await made.end(session.session_id, ANNA)
        await made.end(session.session_id, ANNA)
        with pytest.raises(SessionEndedError):
            await made.get(session.session_id, ANNA)

    asyncio.run(scenario())


def test_others_sessions_are_unknown() -> None:
    async def scenario() -> None:
        made = sessions()
        async with advanced(made) as session:
            pass
        with pytest.raises(SessionUnknownError):
            await made.get(session.session_id, BERT)
        with pytest.raises(SessionUnknownError):
            await made.end(session.session_id, BERT)
        assert (await made.get(session.session_id, ANNA)).position == 0

    asyncio.run(scenario())


def test_idle_sessions_expire_and_used_ones_do_not() -> None:
    async def scenario() -> None:
        clock = Clock()
        made = sessions(clock, idle=50.0)
        async with advanced(made) as idle:
            pass
        async with advanced(made) as used:
            assert await made.expire() == 0
            clock.now += 40
            await made.advance(used, contents(5), REQUEST)
        expires = made.expires(used)
        assert expires is not None
        assert expires - time.time() == pytest.approx(50.0, abs=2.0)
        clock.now += 20
        expires = made.expires(await made.get(used.session_id, ANNA))
        assert expires is not None
        assert expires - time.time() == pytest.approx(30.0, abs=2.0)
        with pytest.raises(SessionExpiredError):
            await made.get(idle.session_id, ANNA)
        assert await made.expire() == 1
        clock.now += 40
        assert await made.expire() == 1
        with pytest.raises(SessionExpiredError):
            await made.get(used.session_id, ANNA)

    asyncio.run(scenario())


def test_forks_have_their_seeds_and_one_mark() -> None:
    async def scenario() -> None:
        made = sessions()
        async with advanced(made, 10) as session:
            forks = await made.fork(session, [1, 2])
        assert [fork.current.sampler.seed for fork in forks] == [1, 2]
        for fork in forks:
            found = await made.get(fork.session_id, ANNA)
            assert len(found.marks) == 1
            sampler = replace(found.current.sampler, seed=5)
            assert sampler.pack() == session.current.sampler.pack()
            assert found.current.snapshot.pack() == session.current.snapshot.pack()

    asyncio.run(scenario())


def test_session_of_a_model_that_is_gone_says_so() -> None:
    async def scenario() -> None:
        store = MemoryStore(9)
        before = Sessions(store, {FINGERPRINT: LAYOUT})
        session = await before.start(ANNA, FINGERPRINT, contents(0))
        with pytest.raises(UnknownModelError, match="abababababab, is no longer served"):
            await Sessions(store, {}).get(session.session_id, ANNA)

    asyncio.run(scenario())


def test_record_takes_little_besides_the_state() -> None:
    async def scenario() -> None:
        async with advanced(sessions()) as session:
            taken = len(session.head()) + len(write_mark(session.current))
            assert taken - LAYOUT.size == 61 + 44

    asyncio.run(scenario())


async def stored(store: MemoryStore, written: Contents) -> str:
    """Put something into a store as the next server finds it, and return its id."""
    session_id = secrets.token_urlsafe(16)
    await store.create([NewSession(session_id, ANNA, bytes(16), written)])
    return session_id


def written(at: int = 3) -> Contents:
    """What a store has of a session at a position."""
    session = Session(
        session_id="", owner=ANNA, fingerprint=FINGERPRINT, created=5.0, idle=0.0,
        marks=[contents(at)], last_request=REQUEST,
    )  # fmt: skip
    return Contents(session.head(), (write_mark(session.current),))


def head_and_mark(data: bytes) -> Contents:
    """Divide what was joined."""
    length = len(written().head)
    return Contents(data[:length], (data[length:],))


WHOLE = b"".join((written().head, *written().marks))


@pytest.mark.parametrize("keep", [0, 1, 50, 61, 75, 90, len(WHOLE) - 1])
def test_damaged_record_is_told_and_not_an_accident(keep: int) -> None:
    async def run() -> None:
        store = MemoryStore(10)
        found = Sessions(store, {FINGERPRINT: LAYOUT})
        session_id = await stored(store, head_and_mark(WHOLE[:keep]))
        with pytest.raises(SessionUnknownError, match="damaged"):
            await found.get(session_id, ANNA)

    asyncio.run(run())


def test_session_in_use_does_not_expire_however_long_its_answer_takes() -> None:
    async def scenario() -> None:
        clock = Clock()
        made = sessions(clock, idle=50.0)
        started = await made.start(ANNA, FINGERPRINT, contents(0))
        async with made.use(started.session_id, ANNA):
            clock.now += 80
            assert (await made.get(started.session_id, ANNA)).position == 0
            assert await made.expire() == 0
            clock.now += 30
        # The answer was cancelled: its end was its last use.
        clock.now += 40
        assert await made.expire() == 0
        assert (await made.get(started.session_id, ANNA)).position == 0
        clock.now += 40
        assert await made.expire() == 1

    asyncio.run(scenario())


def test_asking_for_an_expired_session_removes_nothing() -> None:
    async def scenario() -> None:
        clock = Clock()
        made = sessions(clock, idle=50.0)
        started = await made.start(ANNA, FINGERPRINT, contents(0))
        async with made.use(started.session_id, ANNA) as session:
            clock.now += 80
            asked = asyncio.create_task(made.get(started.session_id, ANNA))
            await made.advance(session, contents(5), REQUEST)
        await asked
        assert (await made.get(started.session_id, ANNA)).position == 5

    asyncio.run(scenario())


@pytest.mark.parametrize("offset", range(0, len(WHOLE), 7))
def test_flipped_bit_is_told(offset: int) -> None:
    async def run() -> None:
        store = MemoryStore(10)
        found = Sessions(store, {FINGERPRINT: LAYOUT})
        data = bytearray(WHOLE)
        data[offset] ^= 1
        session_id = await stored(store, head_and_mark(bytes(data)))
        with pytest.raises(SessionUnknownError, match="damaged"):
            await found.get(session_id, ANNA)

    asyncio.run(run())


def old_record(version: int) -> bytes:
    """A session as versions 1 and 2 wrote it: all of it in one."""
    head = struct.pack("<BB32s16sd16s", version, 1, bytes.fromhex(FINGERPRINT), ANNA, 5.0, REQUEST)
    return head + written().marks[0][:-4]


def summed(data: bytes) -> bytes:
    """Add the checksum that all have had since version 2."""
    return data + struct.pack("<I", zlib.crc32(data))


MARKS, POSITION, TOKEN, STATE = 1, 98, 106, 114  # where these stand in an old record


# Version 3 writes nowhere how many marks there are.
DAMAGE = [
    (version, offset, value)
    for version in (1, 2, 3)
    for offset, value in (
        (MARKS, b"\0"),
        (POSITION, struct.pack("<Q", 2**63)),
        (TOKEN, struct.pack("<I", V)),
        (STATE, struct.pack("<f", float("nan"))),
        (STATE, struct.pack("<f", float("inf"))),
    )
    if (version, offset) != (3, MARKS)
]


@pytest.mark.parametrize(("version", "offset", "value"), DAMAGE)
def test_record_that_cannot_be_gone_on_from_is_damaged(
    version: int, offset: int, value: bytes
) -> None:
    def made(data: bytes) -> Contents:
        if version == 1:
            return Contents(data, ())
        if version == 2:
            return Contents(summed(data), ())
        return Contents(written().head, (summed(data[74:]),))

    async def run() -> None:
        store = MemoryStore(10)
        found = Sessions(store, {FINGERPRINT: LAYOUT})
        data = bytearray(old_record(version))
        whole = await stored(store, made(bytes(data)))
        assert (await found.get(whole, ANNA)).position == 3
        data[offset : offset + len(value)] = value
        damaged = await stored(store, made(bytes(data)))
        with pytest.raises(SessionUnknownError, match="damaged"):
            await found.get(damaged, ANNA)

    asyncio.run(run())


@pytest.mark.parametrize("version", [1, 2])
def test_old_record_goes_on_as_a_new_one(version: int) -> None:
    async def run() -> None:
        store = MemoryStore(10)
        made = Sessions(store, {FINGERPRINT: LAYOUT}, marks=3)
        record = old_record(version)
        session_id = await stored(store, Contents(record if version == 1 else summed(record), ()))
        for position in (8, 9, 10):
            async with made.use(session_id, ANNA) as session:
                assert session.created == 5.0
                await made.advance(session, contents(position), REQUEST)
        found = await made.get(session_id, ANNA)
        assert [mark.snapshot.position for mark in found.marks] == [8, 9, 10]
        assert found.created == 5.0

    asyncio.run(run())


@pytest.mark.parametrize("what", ["there", "busy", "ended", "expired"])
def test_what_became_of_a_session_is_told_to_its_owner_alone(what: str) -> None:
    async def scenario() -> None:
        clock = Clock()
        made = sessions(clock, idle=50.0)
        session_id = (await made.start(ANNA, FINGERPRINT, contents(0))).session_id
        async with AsyncExitStack() as stack:
            if what == "busy":
                await stack.enter_async_context(made.use(session_id, ANNA))
            if what == "ended":
                await made.end(session_id, ANNA)
            if what == "expired":
                clock.now += 80
                assert await made.expire() == 1
            with pytest.raises(SessionUnknownError):
                await made.get(session_id, BERT)
            with pytest.raises(SessionUnknownError):
                await stack.enter_async_context(made.use(session_id, BERT))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wrong", ["x" * 2**20, "\ud800" + "x" * 21, "é" * 22], ids=["giant", "surrogate", "accents"]
)
def test_what_is_no_id_is_unknown_without_a_look_into_the_store_and_not_repeated(
    wrong: str,
) -> None:
    class Untouched(MemoryStore):
        async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
            raise AssertionError(f"looked for {len(session_id)} symbols")

    async def scenario() -> None:
        made = Sessions(Untouched(9), {FINGERPRINT: LAYOUT})
        with pytest.raises(SessionUnknownError) as caught:
            await made.get(wrong, ANNA)
        assert len(str(caught.value)) < 300

    asyncio.run(scenario())


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
