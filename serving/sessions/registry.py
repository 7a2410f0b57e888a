"""Sessions: texts that clients come back to."""

import logging
import math
import secrets
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from serving.engine.snapshot import StateLayout
from serving.sessions.capsule import CapsuleContents, owner_tag
from serving.sessions.session import NO_REQUEST, Session
from serving.sessions.store import Gone, Record, SessionStore
from unroll.errors import (
    InputError,
    SessionBusyError,
    SessionEndedError,
    SessionEvictedError,
    SessionExpiredError,
    SessionLimitError,
    SessionUnknownError,
    StoreError,
    UnknownModelError,
    shown,
)

ID_BYTES = 16
ID_LENGTH = 22  # of so many bytes in base64
NOBODY = owner_tag("")
_GONE = {
    Gone.UNKNOWN: (SessionUnknownError, "no such session was ever started here"),
    Gone.ENDED: (SessionEndedError, "the session was ended"),
    Gone.EXPIRED: (SessionExpiredError, "the session was idle for too long and has expired"),
    Gone.EVICTED: (SessionEvictedError, "the session was evicted to make room for newer ones"),
}
log = logging.getLogger(__name__)
_ADVICE = "; start a new one, or go on from a capsule of it"


class Sessions:
    """Starts, finds, changes and ends sessions; all on one event loop.

    Args:
        store: where they rest.
        layouts: of each served model's state, by fingerprint.
        marks: how many replies a session can be rewound by, and its current one.
        idle_seconds: sessions idle for longer expire; 0 keeps them for ever.
        per_caller: sessions that a caller with a name may have; 0 for any number. Callers without a
            name are not told apart, so they are not counted.
    """

    def __init__(
        self,
        store: SessionStore,
        layouts: Mapping[str, StateLayout],
        *,
        marks: int = 4,
        idle_seconds: float = 0.0,
        per_caller: int = 0,
    ) -> None:
        self._store = store
        self._layouts = layouts
        self.marks = marks
        self._idle_seconds = idle_seconds
        self._per_caller = per_caller
        self._starting: Counter[bytes] = Counter()
        self._now = store.now
        self._busy: set[str] = set()
        self._touched: dict[str, float] = {}  # when those were used whose records do not say so
        self.gone: Counter[Gone] = Counter()

    @property
    def in_use(self) -> int:
        """How many sessions answer a request."""
        return len(self._busy)

    async def start(
        self,
        owner: bytes,
        fingerprint: str,
        contents: CapsuleContents,
        *,
        session_id: str | None = None,
    ) -> Session:
        """Start a session where the contents stand.

        Args:
            owner: tag of the caller.
            fingerprint: of its model, in hex.
            contents: where it stands.
            session_id: ID_LENGTH letters that no session has; by default nobody can guess them.

        Raises:
            SessionLimitError: the caller has as many as it may have.
        """
        async with self._room_for(owner, 1):
            return await self._start(owner, fingerprint, contents, session_id)

    async def _start(
        self,
        owner: bytes,
        fingerprint: str,
        contents: CapsuleContents,
        session_id: str | None = None,
    ) -> Session:
        session = Session(
            session_id=session_id or secrets.token_urlsafe(ID_BYTES),
            owner=owner,
            fingerprint=fingerprint,
            created=time.time(),
            used=self._now(),
            marks=[contents],
            last_request=NO_REQUEST,
        )
        await self._put(session)
        return session

    async def get(self, session_id: str, owner: bytes) -> Session:
        """Find a session.

        Raises:
            SessionUnknownError: the caller has none with that id, or it is another caller's.
            SessionEndedError: it was ended; likewise SessionExpiredError and SessionEvictedError.
            UnknownModelError: its model is not served any more.
        """
        return await self._find(session_id, owner, is_in_use=session_id in self._busy)

    async def _find(self, session_id: str, owner: bytes, *, is_in_use: bool) -> Session:
        is_id = len(session_id) == ID_LENGTH  # megabytes of one are not looked for
        found = await self._store.get(session_id, owner) if is_id else Gone.UNKNOWN
        if isinstance(found, Record) and not is_in_use and self._is_expired(session_id, found):
            found = Gone.EXPIRED  # `expire` removes it soon
        if isinstance(found, Record):
            try:
                session = Session.unpack(session_id, found, self._layouts)
            except UnknownModelError:
                raise
            except (ValueError, struct.error, InputError) as damage:
                log.error("the record of session %s is damaged: %s", session_id, damage)
                raise SessionUnknownError(
                    f"session {shown(session_id)}: its record is damaged{_ADVICE}"
                ) from damage
            return session
        error, what = _GONE[found]
        raise error(f"session {shown(session_id)}: {what}{_ADVICE}")

    @asynccontextmanager
    async def use(self, session_id: str, owner: bytes) -> AsyncIterator[Session]:
        """Find a session and keep others out until the block's end.

        Raises:
            SessionBusyError: another request is using it; else as `get`.
        """
        if session_id in self._busy:
            await self._find(session_id, owner, is_in_use=True)  # only its owner hears that
            raise SessionBusyError(
                f"session {session_id!r} is answering another request; wait for that to end, or "
                "fork the session"
            )
        self._busy.add(session_id)
        try:
            session = await self._find(session_id, owner, is_in_use=False)
            used = session.used
            try:
                yield session
            finally:
                if session.used == used:  # it did not advance: its record is as old as before
                    self._touched[session_id] = self._now()
        finally:
            self._busy.discard(session_id)

    async def advance(self, session: Session, contents: CapsuleContents, request: bytes) -> None:
        """Note where a reply left a session that is in use."""
        session.marks = [*session.marks, contents][-self.marks :]
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
        if not self._idle_seconds:
            return None
        ahead = round(
            time.time() - self._now()
        )  # of the store's time; clients look at a wall clock
        return self._last_use(session.session_id, session.used) + self._idle_seconds + ahead

    async def expire(self) -> int:
        """Remove the sessions that were idle for too long; return how many.

        Those in use are noted as used first, and whatever is used meanwhile is kept.
        """
        touched, self._touched = self._touched, {}
        idle = self._idle_seconds or math.inf
        try:
            await self._store.touch(touched | dict.fromkeys(self._busy, self._now()))
        except StoreError:
            self._touched = touched | self._touched
            raise
        expired = await self._store.expire(
            self._now() - idle,
            lambda session_id: session_id in self._busy or session_id in self._touched,
        )
        self.gone[Gone.EXPIRED] += expired
        return expired

    def _last_use(self, session_id: str, used: float) -> float:
        if session_id in self._busy:
            return self._now()
        return max(used, self._touched.get(session_id, used))

    def _is_expired(self, session_id: str, record: Record) -> bool:
        if not self._idle_seconds:
            return False
        used = max(record.used, self._touched.get(session_id, record.used))
        return used < self._now() - self._idle_seconds

    async def _put(self, session: Session) -> None:
        await self._store.put(session.session_id, Record(session.used, session.pack()))
