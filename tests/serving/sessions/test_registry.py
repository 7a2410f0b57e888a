"""Sessions between store and service: marks, ownership, expiry."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.session import Session, digest_of
from serving.sessions.store import Found, Gone
from tests.serving.sessions.registries import (
    ANNA,
    BERT,
    FINGERPRINT,
    LAYOUT,
    REQUEST,
    Clock,
    advanced,
    contents,
    sessions,
)
from unroll.errors import (
    InputError,
    PositionError,
    SessionBusyError,
    SessionEndedError,
    SessionExpiredError,
    SessionUnknownError,
)


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


def assert_expires_in(seconds: float, made: Sessions, session: Session) -> None:
    asked = time.time()
    expires = made.expires(session)
    assert expires is not None
    assert asked - 1e-3 <= expires - seconds <= time.time() + 1e-3  # of the rounding


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
        assert_expires_in(50.0, made, used)
        clock.now += 20
        assert_expires_in(30.0, made, await made.get(used.session_id, ANNA))
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
