"""Sessions: texts that clients come back to."""

import asyncio
import logging
import math
import secrets
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from serving.engine.snapshot import StateLayout
from serving.sessions.capsule import owner_tag
from serving.sessions.contents import CapsuleContents
from serving.sessions.session import NO_REQUEST, Session, Use, write_mark
from serving.sessions.store import (
    TAG_BYTES,
    Busy,
    Change,
    Contents,
    Found,
    Gone,
    Lease,
    NewSession,
    SessionStore,
)
from unroll.errors import (
    InputError,
    SessionBusyError,
    SessionEndedError,
    SessionError,
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
_ADVICE = "; start a new one, or go on from a capsule of it"
RENEWALS = 3  # of a lease, in the time that it lasts
log = logging.getLogger(__name__)
T = TypeVar("T")


class Sessions:
    """Starts, finds, changes and ends sessions; all on one event loop.

    Args:
        store: where they rest.
        layouts: of each served model's state, by fingerprint.
        marks: how many replies a session can be rewound by, and its current one.
        idle_seconds: how long the store keeps sessions that nobody uses; 0 for ever.
        per_caller: sessions that a caller with a name may have; 0 for any number. Callers without a
            name are not told apart, so they are not counted.

    Attributes:
        in_use: how many sessions answer a request here.
        gone: how many sessions ended or expired here.
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
        self.in_use = 0
        self._finishing: set[asyncio.Task[Any]] = set()
        self.gone: Counter[Gone] = Counter()

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
        return (await self._start(owner, fingerprint, [contents], session_id))[0]

    async def _start(
        self,
        owner: bytes,
        fingerprint: str,
        starts: list[CapsuleContents],
        session_id: str | None = None,
    ) -> list[Session]:
        sessions = [
            Session(
                session_id=session_id or secrets.token_urlsafe(ID_BYTES),
                owner=owner,
                fingerprint=fingerprint,
                created=time.time(),
                idle=0.0,
                marks=[contents],
                last_request=NO_REQUEST,
                stored_marks=1,
            )
            for contents in starts
        ]
        at_most = 0 if owner == NOBODY else self._per_caller
        there = await self._finish(self._store.create([*map(_new, sessions)], at_most))
        if there is not None:
            raise SessionLimitError(
                f"this caller has {there} sessions, the limit is {at_most}; end some "
                "with EndSession, or hold texts as capsules"
            )
        return sessions

    async def get(self, session_id: str, owner: bytes) -> Session:
        """Find a session, also one that answers a request.

        Raises:
            SessionUnknownError: the caller has none with that id, or it is another caller's.
            SessionEndedError: it was ended; likewise SessionExpiredError and SessionEvictedError.
            UnknownModelError: its model is not served any more.
            StoreError: it cannot be read.
        """
        found = Gone.UNKNOWN if _is_no(session_id) else await self._store.read(session_id, owner)
        if isinstance(found, Gone):
            raise _gone(session_id, found)
        return self._read(session_id, owner, found)

    def _read(self, session_id: str, owner: bytes, found: Found) -> Session:
        assert found.contents is not None
        try:
            return Session.read(session_id, owner, found.idle, found.contents, self._layouts)
        except UnknownModelError:
            raise
        except (ValueError, struct.error, InputError) as damage:
            log.error("the record of session %s is damaged: %s", session_id, damage)
            raise SessionUnknownError(
                f"session {shown(session_id)}: its record is damaged{_ADVICE}"
            ) from damage

    @asynccontextmanager
    async def use(self, session_id: str, owner: bytes) -> AsyncIterator[Session]:
        """Find a session and keep others out until the block's end.

        Raises:
            SessionBusyError: another request is using it; else as `get`.
        """
        use = Use(await self._begin(session_id, owner))
        self._renew_later(use)
        self.in_use += 1
        try:
            session = self._read(session_id, owner, use.lease.found)
            session.use = use
            yield session
        finally:
            self.in_use -= 1
            use.stop_renewing()
            if not use.is_over:
                await self._finish(self._store.release(use.lease))

    async def _begin(self, session_id: str, owner: bytes) -> Lease:
        if _is_no(session_id):
            raise _gone(session_id, Gone.UNKNOWN)
        beginning = self._spawn(self._store.begin(session_id, owner))
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self._spawn(self._give_back(beginning))
            raise
        if isinstance(begun, Gone):
            raise _gone(session_id, begun)
        if isinstance(begun, Busy):
            raise SessionBusyError(
                f"session {session_id!r} is answering another request; wait for that to end, or "
                "fork the session"
            )
        return begun

    async def _give_back(self, beginning: "asyncio.Task[Lease | Busy | Gone]") -> None:
        with suppress(StoreError):  # nobody waits for it
            begun = await beginning
            if isinstance(begun, Lease):
                await self._let_go(begun)

    def _renew_later(self, use: Use) -> None:
        """Renew a lease in a while, and again and again until its use is over."""
        seconds = self._store.lease_seconds / RENEWALS
        if not math.isinf(seconds):
            loop = asyncio.get_running_loop()
            use.renewing = loop.call_later(seconds, lambda: self._spawn(self._renew(use)))

    async def _renew(self, use: Use) -> None:
        with suppress(StoreError):  # the store may be back before the lease ends
            await self._store.renew(use.lease)
        if use.renewing is not None:
            self._renew_later(use)

    async def advance(self, session: Session, contents: CapsuleContents, request: bytes) -> None:
        """Note where a reply left a session that is in use, whose use then is over.

        Raises:
            SessionBusyError: the session is another process's by now; nothing is written.
            StoreError: it cannot be written.
        """
        first = max(len(session.marks) + 1 - self.marks, 0)
        await self._commit(session, slice(first, len(session.marks)), request, [contents])

    async def fork(self, session: Session, seeds: list[int]) -> list[Session]:
        """Start one session a seed where a session stands.

        Raises:
            SessionLimitError: the caller would have more than it may have; none is started.
        """
        sampler = session.current.sampler
        starts = [replace(session.current, sampler=replace(sampler, seed=seed)) for seed in seeds]
        return await self._start(session.owner, session.fingerprint, starts)

    async def rewind(self, session: Session, position: int) -> None:
        """Put a session that is in use back to one of its marks; its use then is over.

        Raises:
            InputError: no mark is at that position; else as `advance`.
        """
        positions = [mark.snapshot.position for mark in session.marks]
        if position not in positions:
            raise InputError("position", f"must be one of the session's marks {positions}")
        await self._commit(session, slice(0, positions.index(position) + 1), NO_REQUEST, [])

    async def _commit(
        self, session: Session, kept: slice, request: bytes, new: list[CapsuleContents]
    ) -> None:
        use = session.use
        assert use is not None
        changed = replace(session, marks=session.marks[kept] + new, last_request=request)
        added = new if session.stored_marks else changed.marks
        change = Change(
            tag=secrets.token_bytes(TAG_BYTES),
            head=changed.head(),
            skip=kept.start if session.stored_marks else 0,
            stop=kept.stop if session.stored_marks else 0,
            add=tuple(map(write_mark, added)),
        )
        use.is_over = True
        if not await self._finish(self._write(use.lease, change)):
            raise _taken_over(session.session_id)
        session.marks, session.last_request = changed.marks, request
        session.stored_marks = len(session.marks)
        session.idle = 0.0

    async def _write(self, lease: Lease, change: Change) -> bool:
        try:
            return await self._store.commit(lease, change)
        except StoreError:
            self._spawn(self._let_go(lease))  # a store that is away must not be waited for twice
            raise

    async def _let_go(self, lease: Lease) -> None:
        with suppress(StoreError):  # a lease ends by itself
            await self._store.release(lease)

    async def end(self, session_id: str, owner: bytes) -> Session:
        """End a session and return what it was; raises as `use` and `advance`."""
        async with self.use(session_id, owner) as session:
            assert session.use is not None
            session.use.is_over = await self._finish(self._store.end(session.use.lease))
            if not session.use.is_over:
                raise _taken_over(session_id)
            self.gone[Gone.ENDED] += 1
            return session

    def expires(self, session: Session) -> float | None:
        """Return when a session will expire unless it is used, in unix time; None for never."""
        if not self._idle_seconds:
            return None
        return time.time() + self._idle_seconds - session.idle

    async def expire(self) -> int:
        """Remove the sessions that were idle for too long; return how many."""
        expired = await self._store.expire()
        self.gone[Gone.EXPIRED] += expired
        return expired

    async def settle(self) -> None:
        """Wait for what calls that were cancelled have still to write."""
        await asyncio.gather(*self._finishing, return_exceptions=True)

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what must not stay half done when the call is cancelled."""
        return await asyncio.shield(self._spawn(work))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task


def _taken_over(session_id: str) -> SessionBusyError:
    return SessionBusyError(
        f"session {session_id!r} was taken over by another server while this request ran, and is "
        "as that one left it; send the request again"
    )


def _new(session: Session) -> NewSession:
    contents = Contents(session.head(), (write_mark(session.current),))
    tag = secrets.token_bytes(TAG_BYTES)
    return NewSession(session.session_id, session.owner, tag, contents)


def _is_no(session_id: str) -> bool:
    """Tell whether something is no id: stores are not asked for megabytes, or for half symbols."""
    return len(session_id) != ID_LENGTH or not session_id.isascii()


def _gone(session_id: str, gone: Gone) -> SessionError:
    error, what = _GONE[gone]
    return error(f"session {shown(session_id)}: {what}{_ADVICE}")
