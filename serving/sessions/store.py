"""What every store of sessions does, whether in memory, on disk or in Redis.

A session at rest is a head and its marks, bytes that the store does not read. Whoever wants to
change it begins with a lease, and commits with that lease and the tag of what it found. The lease
tells a second caller early that the session is busy. The tag keeps the text one chain: it is random
and new with every change, so a process that was stopped for longer than its lease commits nothing,
even if the store has lost writes since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

TAG_BYTES = 16  # of tags and of leases' keys
LEASE_SECONDS = 10.0  # a lease that nobody renews for so long can be taken by others
FATE_SECONDS = 7 * 86400.0  # for so long a store remembers why a session is gone


class Gone(Enum):
    """Why a session is not there."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    EXPIRED = "expired"
    EVICTED = "evicted"


@dataclass(frozen=True, slots=True)
class Busy:
    """Another request has the session's lease.

    Attributes:
        seconds: until the lease ends, unless it is renewed.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit makes of a session.

    Attributes:
        tag: the session's from now on, 16 random bytes. A commit that is sent again has the same.
        head: in place of the one before.
        skip: how many of the oldest marks are dropped.
        stop: number of marks, the dropped ones included, that come before those dropped at the end.
        add: marks that follow those kept.
    """

    tag: bytes
    head: bytes
    skip: int
    stop: int
    add: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a session that its readers understand.

    Attributes:
        head: what it is.
        marks: where it stood, the oldest first.
    """

    head: bytes
    marks: tuple[bytes, ...]

    def changed(self, change: Change) -> "Contents":
        """Return what a change makes of it."""
        return Contents(change.head, self.marks[change.skip : change.stop] + change.add)


@dataclass(frozen=True, slots=True)
class Found:
    """A session as the store has it.

    Attributes:
        tag: of its last change.
        idle: seconds since its last use.
        contents: None if the caller knows them, as it said.
    """

    tag: bytes
    idle: float
    contents: Contents | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change a session.

    Attributes:
        session_id: whose.
        owner: tag of the caller.
        key: 16 random bytes.
        found: what the change starts from.
    """

    session_id: str
    owner: bytes
    key: bytes
    found: Found


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to create.

    Attributes:
        session_id: new and unguessable.
        owner: tag of the caller.
        tag: 16 random bytes.
        contents: of it.
    """

    session_id: str
    owner: bytes
    tag: bytes
    contents: Contents


class SessionStore(Protocol):
    """The contract of every store.

    Time is the store's own, in seconds, and never jumps. Any method may raise StoreError: the store
    is away or full. Every method can be called again with equal arguments, which changes no more.

    Attributes:
        has_failed: whether the last access failed.
        lease_seconds: how long a lease lasts.
    """

    @property
    def has_failed(self) -> bool:
        """See the class."""
        ...

    @property
    def lease_seconds(self) -> float:
        """See the class."""
        ...

    async def create(self, sessions: Sequence[NewSession], at_most: int = 0) -> int | None:
        """Write sessions of one owner.

        Args:
            sessions: all or none of which are written.
            at_most: sessions that the owner may then have; 0 for any number.

        Returns:
            None; or, if they were too many, how many the owner has.
        """
        ...

    async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
        """Find a session, or why there is none; another owner's is unknown.

        Args:
            session_id: which.
            owner: tag of the caller.
            known: a tag; if it is the session's, its contents are not fetched.
        """
        ...

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        """Take a session's lease, which counts as a use; otherwise as `read`."""
        ...

    async def renew(self, lease: Lease) -> bool:
        """Make a lease last as from now, which counts as a use; tell whether it is still held."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give a lease back, which counts as a use; nothing happens if it is not held."""
        ...

    async def commit(self, lease: Lease, change: Change) -> bool:
        """Write a change and give the lease back.

        Returns:
            Whether it is written: not if the session has another lease or tag by now.
        """
        ...

    async def end(self, lease: Lease) -> bool:
        """Remove a session, remember that it was ended, and tell whether the lease was held."""
        ...

    async def expire(self) -> int:
        """Remove the sessions that were unused for too long; return how many."""
        ...

    def count(self) -> int | None:
        """Return how many sessions there are; None if the store has not looked yet."""
        ...

    async def close(self) -> None:
        """Finish writing. Closing again does no harm."""
        ...
