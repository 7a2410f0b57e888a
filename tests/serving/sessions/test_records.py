"""What a store has of a session: all of it, little besides the state, and known if damaged."""

import asyncio
import secrets
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import Sessions
from serving.sessions.session import Session, write_mark
from serving.sessions.store import Contents, NewSession
from tests.serving.sessions.registries import (
    ANNA,
    FINGERPRINT,
    LAYOUT,
    REQUEST,
    V,
    advanced,
    contents,
    sessions,
)
from unroll.errors import (
    SessionUnknownError,
    UnknownModelError,
)


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
