"""Sessions: texts that clients come back to."""

import hashlib
import logging
import secrets
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from serving.engine.snapshot import SamplerState, Snapshot, StateLayout
from serving.sessions.capsule import CapsuleContents, owner_tag
from serving.sessions.store import Gone, Record, SessionStore
from unroll.errors import (
    InputError,
    PositionError,
    SessionBusyError,
    SessionEndedError,
    SessionEvictedError,
    SessionExpiredError,
    SessionLimitError,
    SessionUnknownError,
    UnknownModelError,
)

ID_BYTES = 16
NO_REQUEST = bytes(16)  # a digest that no request has
NOBODY = owner_tag("")
# version, marks, fingerprint, owner, created, last request
_HEADER = struct.Struct("<BB32s16sd16s")
_VERSION = 1
_GONE = {
    Gone.UNKNOWN: (SessionUnknownError, "no such session was ever started here"),
    Gone.ENDED: (SessionEndedError, "the session was ended"),
    Gone.EXPIRED: (SessionExpiredError, "the session was idle for too long and has expired"),
    Gone.EVICTED: (SessionEvictedError, "the session was evicted to make room for newer ones"),
}
log = logging.getLogger(__name__)
_ADVICE = "; start a new one, or go on from a capsule of it"


@dataclass(slots=True)
class Session:
    """A text, its owner and where it stood lately.

    Attributes:
        session_id: 22 URL-safe letters that nobody can guess.
        owner: tag of the caller that started it.
        fingerprint: of its model, in hex.
        created: unix time in seconds.
        used: unix time of its last use.
        marks: where it stood after each of its last replies, the oldest first.
        last_request: digest of the request that led to the last mark; zeros for none.
    """

    session_id: str
    owner: bytes
    fingerprint: str
    created: float
    used: float
    marks: list[CapsuleContents]
    last_request: bytes

    @property
    def current(self) -> CapsuleContents:
        """Where it stands."""
        return self.marks[-1]

    @property
    def position(self) -> int:
        """Position of its next symbol."""
        return self.current.snapshot.position

    def origin(self, expected_position: int | None, request: bytes) -> tuple[CapsuleContents, bool]:
        """Find where a request goes on from.

        Args:
            expected_position: where the client believes the session to be; None if it does not say.
            request: digest of the request.

        Returns:
            The mark to start at, and whether the request is the last one again: then its answer
            is computed again, which gives the same, and the session stays where it is.

        Raises:
            PositionError: the session stands elsewhere.
        """
        if expected_position is None or expected_position == self.position:
            return self.current, False
        is_repeated = len(self.marks) > 1 and request == self.last_request
        if is_repeated and expected_position == self.marks[-2].snapshot.position:
            return self.marks[-2], True
        raise PositionError(
            f"the session is at position {self.position}, not {expected_position}; ask for its "
            "state with GetSession, or rewind it",
            actual=self.position,
        )

    def pack(self) -> bytes:
        """Write it down, but for its id and its last use."""
        header = _HEADER.pack(
            _VERSION,
            len(self.marks),
            bytes.fromhex(self.fingerprint),
            self.owner,
            self.created,
            self.last_request,
        )
        marks = [mark.sampler.pack() + mark.snapshot.pack() for mark in self.marks]
        return header + b"".join(marks)


def digest_of(request: bytes) -> bytes:
    """Shorten a serialized request to 16 bytes."""
    return hashlib.sha256(request).digest()[:16]


class Sessions:
    """Starts, finds, changes and ends sessions; all on one event loop.

    Args:
        store: where they rest.
        layouts: of each served model's state, by fingerprint.
        marks: how many replies a session can be rewound by, and its current one.
        idle_seconds: sessions idle for longer expire; 0 keeps them for ever.
        per_caller: sessions that a caller with a name may have; 0 for any number. Callers without a
            name are not told apart, so they are not counted.
        now: the clock, unix time in seconds.
    """

    def __init__(
        self,
        store: SessionStore,
        layouts: Mapping[str, StateLayout],
        *,
        marks: int = 4,
        idle_seconds: float = 0.0,
        per_caller: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._layouts = layouts
        self._marks = marks
        self._idle_seconds = idle_seconds
        self._per_caller = per_caller
        self._starting: Counter[bytes] = Counter()
        self._now = now
        self._busy: set[str] = set()
        self.gone: Counter[Gone] = Counter()

    @property
    def in_use(self) -> int:
        """How many sessions answer a request."""
        return len(self._busy)

    async def start(self, owner: bytes, fingerprint: str, contents: CapsuleContents) -> Session:
        """Start a session where the contents stand.

        Raises:
            SessionLimitError: the caller has as many as it may have.
        """
        async with self._room_for(owner, 1):
            return await self._start(owner, fingerprint, contents)

    async def _start(self, owner: bytes, fingerprint: str, contents: CapsuleContents) -> Session:
        now = self._now()
        session = Session(
            session_id=secrets.token_urlsafe(ID_BYTES),
            owner=owner,
            fingerprint=fingerprint,
            created=now,
            used=now,
            marks=[contents],
            last_request=NO_REQUEST,
        )
        await self._put(session)
        return session

    async def get(self, session_id: str, owner: bytes) -> Session:
        """Find a session.

        Raises:
            SessionUnknownError: there is none of that id, or it is another caller's.
            SessionEndedError: it was ended; likewise SessionExpiredError and SessionEvictedError.
            UnknownModelError: its model is not served any more.
        """
        found = await self._store.get(session_id)
        if isinstance(found, Record) and self._is_expired(found):
            await self._store.remove(session_id, Gone.EXPIRED)
            self.gone[Gone.EXPIRED] += 1
            found = Gone.EXPIRED
        if isinstance(found, Record):
            try:
                session = self._unpack(session_id, found)
            except UnknownModelError:
                raise
            except (ValueError, struct.error, InputError) as damage:
                log.error("the record of session %s is damaged: %s", session_id, damage)
                raise SessionUnknownError(
                    f"session {session_id!r}: its record is damaged{_ADVICE}"
                ) from damage
            if session.owner == owner:
                return session
            found = Gone.UNKNOWN  # that it exists is nobody else's business
        error, what = _GONE[found]
        raise error(f"session {session_id!r}: {what}{_ADVICE}")

    @asynccontextmanager
    async def use(self, session_id: str, owner: bytes) -> AsyncIterator[Session]:
        """Find a session and keep others out until the block's end.

        Raises:
            SessionBusyError: another request is using it; else as `get`.
        """
        if session_id in self._busy:
            raise SessionBusyError(
                f"session {session_id!r} is answering another request; wait for that to end, or "
                "fork the session"
            )
        self._busy.add(session_id)
        try:
            yield await self.get(session_id, owner)
        finally:
            self._busy.discard(session_id)

    async def advance(self, session: Session, contents: CapsuleContents, request: bytes) -> None:
        """Note where a reply left a session that is in use."""
        session.marks = [*session.marks, contents][-self._marks :]
        session.last_request = request
        session.used = self._now()
        await self._put(session)

    async def fork(self, session: Session, seeds: list[int]) -> list[Session]:
        """Start one session a seed where a session stands.

        Raises:
            SessionLimitError: the caller would have more than it may have; none is started.
        """
        forks = []
        async with self._room_for(session.owner, len(seeds)):
            for seed in seeds:
                sampler = replace(session.current.sampler, seed=seed)
                contents = replace(session.current, sampler=sampler)
                forks.append(await self._start(session.owner, session.fingerprint, contents))
        return forks

    async def rewind(self, session: Session, position: int) -> None:
        """Put a session that is in use back to one of its marks.

        Raises:
            InputError: no mark is at that position.
        """
        positions = [mark.snapshot.position for mark in session.marks]
        if position not in positions:
            raise InputError("position", f"must be one of the session's marks {positions}")
        session.marks = session.marks[: positions.index(position) + 1]
        session.last_request = NO_REQUEST
        session.used = self._now()
        await self._put(session)

    async def end(self, session_id: str, owner: bytes) -> Session:
        """End a session and return what it was; raises as `use`."""
        async with self.use(session_id, owner) as session:
            await self._store.remove(session_id, Gone.ENDED)
            self.gone[Gone.ENDED] += 1
            return session

    @asynccontextmanager
    async def _room_for(self, owner: bytes, more: int) -> AsyncIterator[None]:
        """Hold room for a caller's new sessions; those that start side by side count, too."""
        if not self._per_caller or owner == NOBODY:
            yield
            return
        self._starting[owner] += more
        try:
            there = await self._store.count_of(owner)
            if there + self._starting[owner] > self._per_caller:
                raise SessionLimitError(
                    f"this caller has {there} sessions, the limit is {self._per_caller}; end some "
                    "with EndSession, or hold texts as capsules"
                )
            yield
        finally:
            self._starting[owner] -= more
            if not self._starting[owner]:
                del self._starting[owner]

    def expires(self, session: Session) -> float | None:
        """Return when a session will expire unless it is used, in unix time; None for never."""
        return session.used + self._idle_seconds if self._idle_seconds else None

    async def expire(self) -> int:
        """Remove the sessions that were idle for too long; return how many."""
        if not self._idle_seconds:
            return 0
        expired = await self._store.expire(self._now() - self._idle_seconds)
        self.gone[Gone.EXPIRED] += expired
        return expired

    def _is_expired(self, record: Record) -> bool:
        return bool(self._idle_seconds) and record.used < self._now() - self._idle_seconds

    async def _put(self, session: Session) -> None:
        await self._store.put(session.session_id, Record(session.used, session.pack()))

    def _unpack(self, session_id: str, record: Record) -> Session:
        view = memoryview(record.data)
        _, count, fingerprint, owner, created, last_request = _HEADER.unpack_from(view)
        layout = self._layouts.get(fingerprint.hex())
        if layout is None:
            raise UnknownModelError(
                "session",
                f"its model, fingerprint {fingerprint.hex()[:12]}, is not served here any more; "
                "serve that bundle again or start a new session",
            )
        marks, view = [], view[_HEADER.size :]
        for _ in range(count):
            sampler = SamplerState.unpack(view)
            snapshot, length = Snapshot.unpack(view[SamplerState.SIZE :], layout.size)
            view = view[SamplerState.SIZE + length :]
            marks.append(CapsuleContents(sampler=sampler, snapshot=snapshot))
        return Session(
            session_id=session_id,
            owner=owner,
            fingerprint=fingerprint.hex(),
            created=created,
            used=record.used,
            marks=marks,
            last_request=last_request,
        )
