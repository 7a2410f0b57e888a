"""One session: where a text stands, and how that is written down."""

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serving.engine.snapshot import SamplerState, Snapshot, StateLayout
from serving.sessions.capsule import CapsuleContents
from serving.sessions.store import Record
from unroll.errors import PositionError, UnknownModelError

NO_REQUEST = bytes(16)  # a digest that no request has
# version, marks, fingerprint, owner, created, last request; then the marks and, since version 2,
# the CRC-32 (ISO/IEC 13239) of all before it
_HEADER = struct.Struct("<BB32s16sd16s")
_CHECKSUM = struct.Struct("<I")
_VERSION = 2


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
        data = header + b"".join(marks)
        return data + _CHECKSUM.pack(zlib.crc32(data))

    @classmethod
    def unpack(
        cls, session_id: str, record: Record, layouts: Mapping[str, StateLayout]
    ) -> "Session":
        """Read what `pack` wrote; records of version 1 have no checksum.

        Raises:
            UnknownModelError: its model has no layout here.
            ValueError, struct.error, InputError: it is damaged.
        """
        view = memoryview(record.data)
        version, count, fingerprint, owner, created, last_request = _HEADER.unpack_from(view)
        if version not in {1, _VERSION} or not count:
            raise ValueError(f"it has version {version} and {count} marks")
        if version == _VERSION:
            view, checksum = view[: -_CHECKSUM.size], view[-_CHECKSUM.size :]
            if zlib.crc32(view) != _CHECKSUM.unpack(checksum)[0]:
                raise ValueError("its checksum does not match")
        layout = layouts.get(fingerprint.hex())
        if layout is None:
            raise UnknownModelError(
                "session",
                f"its model, fingerprint {fingerprint.hex()[:12]}, is no longer served here; "
                "serve that bundle again or start a new session",
            )
        marks, view = [], view[_HEADER.size :]
        for _ in range(count):
            sampler = SamplerState.unpack(view)
            snapshot, length = Snapshot.unpack(view[SamplerState.SIZE :], layout.size)
            layout.check(snapshot)
            if not np.isfinite(np.frombuffer(snapshot.state, "<f4")).all():
                raise ValueError("a number of its state is not finite")
            view = view[SamplerState.SIZE + length :]
            marks.append(CapsuleContents(sampler=sampler, snapshot=snapshot))
        if len(view):
            raise ValueError("it is longer than its contents")
        return cls(
            session_id=session_id,
            owner=owner,
            fingerprint=fingerprint.hex(),
            created=created,
            used=record.used,
            marks=marks,
            last_request=last_request,
        )


def digest_of(request: bytes) -> bytes:
    """Shorten a serialized request to 16 bytes."""
    return hashlib.sha256(request).digest()[:16]
