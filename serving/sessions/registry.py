"""Sessions: texts that clients come back to."""

import logging
import secrets
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from serving.engine.sequences.snapshot import StateLayout
from serving.sessions import refusals
from serving.sessions.capsule import owner_tag
from serving.sessions.contents import CapsuleContents
from serving.sessions.leases import Leases
from serving.sessions.session import NO_REQUEST, Session, write_mark
from serving.sessions.store import (
    TAG_BYTES,
    Change,
    Contents,
    Found,
    Gone,
    NewSession,
    SessionStore,
)
from unroll.errors import (
    InputError,
    UnknownModelError,
)

ID_BYTES = 16
ID_LENGTH = 22  # of so many bytes in base64
NOBODY = owner_tag("")
log = logging.getLogger(__name__)


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
        self._leases = Leases(store)
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
        there = await self._leases.finish(self._store.create([*map(_new, sessions)], at_most))
        if there is not None:
            raise refusals.too_many(there, at_most)
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
            raise refusals.gone(session_id, found)
        return self._read(session_id, owner, found)

    def _read(self, session_id: str, owner: bytes, found: Found) -> Session:
        assert found.contents is not None
        try:
            return Session.read(session_id, owner, found.idle, found.contents, self._layouts)
        except UnknownModelError:
            raise
        except (ValueError, struct.error, InputError) as damage:
            log.error("the record of session %s is damaged: %s", session_id, damage)
            raise refusals.damaged(session_id) from damage

    @asynccontextmanager
    async def use(self, session_id: str, owner: bytes) -> AsyncIterator[Session]:
        """Find a session and keep others out until the block's end.

        Raises:
            SessionBusyError: another request is using it; else as `get`.
        """
        if _is_no(session_id):
            raise refusals.gone(session_id, Gone.UNKNOWN)
        use = await self._leases.take(session_id, owner)
        self.in_use += 1
        try:
            session = self._read(session_id, owner, use.lease.found)
            session.use = use
            yield session
        finally:
            self.in_use -= 1
            await self._leases.give_back(use)

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
            raise InputError(
                "position", f"must be one of the session's marks {positions}, got {position}"
            )
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
        if not await self._leases.commit(use, change):
            raise refusals.taken_over(session.session_id)
        session.marks, session.last_request = changed.marks, request
        session.stored_marks = len(session.marks)
        session.idle = 0.0

    async def end(self, session_id: str, owner: bytes) -> Session:
        """End a session and return what it was; raises as `use` and `advance`."""
        async with self.use(session_id, owner) as session:
            assert session.use is not None
            session.use.is_over = await self._leases.finish(self._store.end(session.use.lease))
            if not session.use.is_over:
                raise refusals.taken_over(session_id)
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
        await self._leases.settle()


def _new(session: Session) -> NewSession:
    contents = Contents(session.head(), (write_mark(session.current),))
    tag = secrets.token_bytes(TAG_BYTES)
    return NewSession(session.session_id, session.owner, tag, contents)


def _is_no(session_id: str) -> bool:
    """Tell whether something is no id: stores are not asked for megabytes, or for half symbols."""
    return len(session_id) != ID_LENGTH or not session_id.isascii()
