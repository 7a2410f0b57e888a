"""One session: where a text stands, and how that is written down."""

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serving.engine.sequences.snapshot import StateLayout
from serving.sessions.contents import CapsuleContents
from serving.sessions.leases import Use
from serving.sessions.store import Contents
from unroll.errors import PositionError, UnknownModelError

NO_REQUEST = bytes(16)  # a digest that no request has
_HEAD = struct.Struct("<B32sd16s")  # version, fingerprint, created, last request
# Before version 3 the head held the marks, too: version, their number, fingerprint, owner, created,
# last request; then the marks and, since version 2, the checksum of all before it.
_OLD_HEAD = struct.Struct("<BB32s16sd16s")
_VERSION = 3
_CHECKSUM = struct.Struct("<I")  # CRC-32 (ISO/IEC 13239), at the end of the head and of each mark


@dataclass(slots=True)
class Session:
    """A text, its owner and where it stood lately.

    Attributes:
        session_id: 22 URL-safe letters that nobody can guess.
        owner: tag of the caller that started it.
        fingerprint: of its model, in hex.
        created: unix time in seconds.
        idle: seconds between its last use and when it was found.
        marks: where it stood after each of its last replies, the oldest first.
        last_request: digest of the request that led to the last mark; zeros for none.
        stored_marks: how many marks of their own the store has of it; none if the head holds them.
        use: if a request uses it.
    """

    session_id: str
    owner: bytes
    fingerprint: str
    created: float
    idle: float
    marks: list[CapsuleContents]
    last_request: bytes
    stored_marks: int = 0
    use: Use | None = None

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

    def head(self) -> bytes:
        """Write down all but its id, its owner and its marks."""
        fingerprint = bytes.fromhex(self.fingerprint)
        return _summed(_HEAD.pack(_VERSION, fingerprint, self.created, self.last_request))

    @classmethod
    def read(
        cls,
        session_id: str,
        owner: bytes,
        idle: float,
        contents: Contents,
        layouts: Mapping[str, StateLayout],
    ) -> "Session":
        """Read what a store has of a session.

        Raises:
            UnknownModelError: its model has no layout here.
            ValueError, struct.error, InputError: it is damaged.
        """
        head = contents.head
        if head[:1] in {b"\1", b"\2"}:
            return _read_old(session_id, owner, idle, head, layouts)
        version, fingerprint, created, last_request = _HEAD.unpack(_checked(head))
        if version != _VERSION or not contents.marks:
            raise ValueError(f"it has version {version} and {len(contents.marks)} marks")
        layout = _layout(layouts, fingerprint)
        marks = []
        for written in contents.marks:
            view = _checked(written)
            mark, rest = _read_mark(view, layout)
            if len(rest):
                mark, rest = _read_mark(view, layout, with_constraints=True)
            _check_end(rest)
            marks.append(mark)
        return cls(
            session_id=session_id,
            owner=owner,
            fingerprint=fingerprint.hex(),
            created=created,
            idle=idle,
            marks=marks,
            last_request=last_request,
            stored_marks=len(marks),
        )


def write_mark(mark: CapsuleContents) -> bytes:
    """Write down where a session stood; with biases and pattern if it has any."""
    return _summed(mark.pack(with_constraints=not mark.is_free))


def _read_old(
    session_id: str,
    owner: bytes,
    idle: float,
    record: bytes,
    layouts: Mapping[str, StateLayout],
) -> Session:
    version, count, fingerprint, _, created, last_request = _OLD_HEAD.unpack_from(record)
    if not count:
        raise ValueError("it has no marks")
    view = memoryview(record) if version == 1 else _checked(record)
    layout = _layout(layouts, fingerprint)
    marks, view = [], view[_OLD_HEAD.size :]
    for _ in range(count):
        mark, view = _read_mark(view, layout)
        marks.append(mark)
    _check_end(view)
    return Session(
        session_id=session_id,
        owner=owner,
        fingerprint=fingerprint.hex(),
        created=created,
        idle=idle,
        marks=marks,
        last_request=last_request,
    )


def _layout(layouts: Mapping[str, StateLayout], fingerprint: bytes) -> StateLayout:
    layout = layouts.get(fingerprint.hex())
    if layout is None:
        raise UnknownModelError(
            "session",
            f"its model, fingerprint {fingerprint.hex()[:12]}, is no longer served here; "
            "serve that bundle again or start a new session",
        )
    return layout


def _read_mark(
    view: memoryview, layout: StateLayout, *, with_constraints: bool = False
) -> tuple[CapsuleContents, memoryview]:
    """Read a mark and return it with what follows it."""
    mark, length = CapsuleContents.unpack(view, layout, with_constraints=with_constraints)
    if not np.isfinite(np.frombuffer(mark.snapshot.state, "<f4")).all():
        raise ValueError("a number of its state is not finite")
    return mark, view[length:]


def _check_end(rest: memoryview) -> None:
    if len(rest):
        raise ValueError("it is longer than its contents")


def _summed(data: bytes) -> bytes:
    return data + _CHECKSUM.pack(zlib.crc32(data))


def _checked(data: bytes) -> memoryview:
    view = memoryview(data)
    body, checksum = view[: -_CHECKSUM.size], view[-_CHECKSUM.size :]
    if zlib.crc32(body) != _CHECKSUM.unpack(checksum)[0]:
        raise ValueError("its checksum does not match")
    return body


def digest_of(request: bytes) -> bytes:
    """Shorten a serialized request to 16 bytes."""
    return hashlib.sha256(request).digest()[:16]
