"""What a request goes on from: the start symbol, a capsule or a session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from serving.engine.models import Models, ServedModel
from serving.engine.request import SequenceRequest
from serving.engine.snapshot import SamplerState, Snapshot
from serving.sessions.capsule import CapsuleCodec, CapsuleContents, CapsuleKeys, check
from serving.sessions.registry import NO_REQUEST, Session, Sessions, digest_of
from unroll.errors import ForeignCapsuleError, InputError, PositionError, shown
from unroll.v1 import text_generation_pb2 as pb

Request = pb.GenerateRequest | pb.ScoreRequest


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a request begins.

    Attributes:
        model: that goes on.
        codec: of its capsules.
        owner: the caller's tag.
        contents: where the text stands; None for the start symbol.
        session: the session that it is, if it is one.
        is_repeated: whether the session's last answer is asked for again.
        digest: of the request.
    """

    model: ServedModel
    codec: CapsuleCodec
    owner: bytes
    contents: CapsuleContents | None = None
    session: Session | None = None
    is_repeated: bool = False
    digest: bytes = b""

    @property
    def snapshot(self) -> Snapshot | None:
        """Where the text stands; None for the start symbol, of a session that has no text, too."""
        if self.contents is None or not self.contents.snapshot.position:
            return None
        return self.contents.snapshot

    def seal(self, sample: SequenceRequest, snapshot: Snapshot) -> bytes:
        """Write a capsule of where a sample stands."""
        return self.codec.seal(_contents(sample, snapshot), self.owner)


def _contents(sample: SequenceRequest, snapshot: Snapshot) -> CapsuleContents:
    sampler = SamplerState(seed=sample.seed, sampling=sample.sampling)
    return CapsuleContents(sampler=sampler, snapshot=snapshot)


class Origins:
    """Finds what requests go on from.

    Args:
        models: what is served.
        sessions: of all models.
        keys: of this server's capsules.
    """

    def __init__(self, models: Models, sessions: Sessions, keys: CapsuleKeys) -> None:
        self._models = models
        self._sessions = sessions
        self._keys = keys
        self._codecs: dict[str, CapsuleCodec] = {}  # by fingerprint

    @asynccontextmanager
    async def open(self, request: pb.GenerateRequest, owner: bytes) -> AsyncIterator[Origin]:
        """Find what a request goes on from; a session is kept for it until the block's end.

        Raises:
            InputError: fields contradict each other.
            CapsuleError: the capsule is not valid here.
            SessionError: the session cannot be used, or stands elsewhere.
        """
        if request.WhichOneof("origin") != "session":
            yield await self.look_at(request, owner)
            return
        if request.sample_count > 1:
            raise InputError("sample_count", "must be 1 in a session; fork the session instead")
        async with self._sessions.use(request.session, owner) as session:
            digest = digest_of(request.SerializeToString(deterministic=True))
            expected = request.expected_position if request.HasField("expected_position") else None
            contents, is_repeated = session.origin(expected, digest)
            found = self._of_session(request.model, session, owner)
            yield replace(found, contents=contents, is_repeated=is_repeated, digest=digest)

    async def look_at(self, request: Request, owner: bytes) -> Origin:
        """Find what a request goes on from, without keeping a session; raises as `open`."""
        origin = request.WhichOneof("origin")
        if origin == "session":
            session = await self._sessions.get(request.session, owner)
            return self._of_session(request.model, session, owner)
        if origin == "capsule":
            found = self.of_capsule(request.model, request.capsule, owner)
            assert found.contents is not None
            _expect(request, found.contents.snapshot.position)
            return found
        _expect(request, 0)
        return self._origin(self._models.get(request.model), owner)

    def of_capsule(self, name: str, capsule: bytes, owner: bytes) -> Origin:
        """Open a capsule.

        Args:
            name: of the model that the caller asks for; empty for the capsule's own.
            capsule: as it came.
            owner: the caller's tag.

        Raises:
            CapsuleError: it is not valid here.
            UnknownModelError: no model of that name is served.
        """
        named = self._models.get(name) if name else None
        fingerprint, _ = check(capsule, self._keys)
        model = self._models.serving(fingerprint.hex())
        if named is not None and (model is None or model.name != named.name):
            model = named  # its codec tells what is wrong
        if model is None:
            raise ForeignCapsuleError(
                "capsule",
                f"its model, fingerprint {fingerprint.hex()[:12]}, is not served here; ask a "
                "server that serves that bundle",
            )
        found = self._origin(model, owner)
        return replace(found, contents=found.codec.open(capsule, owner))

    async def advance(
        self,
        origin: Origin,
        sample: SequenceRequest,
        snapshot: Snapshot,
        *,
        is_whole: bool = True,
    ) -> None:
        """Note where an answer left its session, if it has one and was not asked for again.

        An answer that is not whole cannot be asked for again: it would come out longer.
        """
        if origin.session is not None and not origin.is_repeated:
            contents = _contents(sample, snapshot)
            digest = origin.digest if is_whole else NO_REQUEST
            await self._sessions.advance(origin.session, contents, digest)

    def _of_session(self, name: str, session: Session, owner: bytes) -> Origin:
        model = self._models.serving(session.fingerprint)
        assert model is not None, "sessions of models that are not served are not found"
        if name and self._models.get(name).name != model.name:
            raise InputError("model", f"is {shown(name)}, but the session is one of {model.name!r}")
        return replace(self._origin(model, owner), session=session, contents=session.current)

    def _origin(self, model: ServedModel, owner: bytes) -> Origin:
        codec = self._codecs.get(model.fingerprint)
        if codec is None:
            codec = self._codecs[model.fingerprint] = CapsuleCodec(
                self._keys, model.fingerprint, model.engine.layout
            )
        return Origin(model=model, codec=codec, owner=owner)


def _expect(request: Request, position: int) -> None:
    if isinstance(request, pb.GenerateRequest) and request.HasField("expected_position"):
        expected = request.expected_position
        if expected != position:
            raise PositionError(
                f"the text stands at position {position}, not {expected}; send the capsule or "
                "session that stands there",
                actual=position,
            )
