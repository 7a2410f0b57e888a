"""What a request continues from: the start symbol, a capsule or a session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from serving.constraints.automata import Automata
from serving.engine.models import Models
from serving.engine.sequences.request import SequenceRequest
from serving.engine.sequences.snapshot import PatternPlace, SamplerState, Snapshot
from serving.engine.served import ServedModel
from serving.sessions.capsule import (
    CapsuleCodec,
    CapsuleKeys,
    check,
    owner_tag,
)
from serving.sessions.contents import CapsuleContents
from serving.sessions.registry import Sessions
from serving.sessions.session import NO_REQUEST, Session
from unroll.errors import ForeignCapsuleError, InputError, PositionError, shown


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request asks to begin.

    Attributes:
        model: name of the model; empty for the default, or for that of the capsule or session.
        capsule: to go on from, if any.
        session: id of the session to go on from, if any; never beside a capsule.
        expected_position: where the caller believes the text to stand; None if it does not say.
        digest: of the request, by which a session knows it again.
    """

    model: str
    capsule: bytes | None = None
    session: str | None = None
    expected_position: int | None = None
    digest: bytes = NO_REQUEST


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a request begins.

    Attributes:
        model: that goes on.
        caller: identity of who asks; empty for none.
        sampler: seed and sampling parameters in force; None for the start symbol.
        snapshot: where the text stands; None for the start symbol, also of a session without text.
        session: the session that it is, if it is one.
        is_repeated: whether the session's last answer is asked for again.
        digest: of the request.
    """

    model: ServedModel
    caller: str
    sampler: SamplerState | None = None
    snapshot: Snapshot | None = None
    session: Session | None = None
    is_repeated: bool = False
    digest: bytes = NO_REQUEST

    @property
    def pattern(self) -> PatternPlace | None:
        """The pattern in force and where the text stands in it; None for none."""
        return None if self.snapshot is None else self.snapshot.place

    def begins(self, ids: list[int]) -> bool:
        """Tell whether ids begin with the start symbol, where every text begins anyway."""
        return self.snapshot is None and ids[:1] == [self.model.bundle.vocabulary.start_id]


class Origins:
    """Finds what requests continue from.

    A caller is named by its identity, as a token or certificate proves it; empty for none.

    Args:
        models: what is served.
        sessions: of all models.
        keys: of this server's capsules.

    Attributes:
        automata: of the patterns in force and to come.
    """

    def __init__(self, models: Models, sessions: Sessions, keys: CapsuleKeys) -> None:
        self._models = models
        self._sessions = sessions
        self._keys = keys
        self.automata = Automata()
        self._codecs: dict[str, CapsuleCodec] = {}  # by fingerprint

    @asynccontextmanager
    async def open(self, place: Place, caller: str) -> AsyncIterator[Origin]:
        """Find what a request continues from; a session is reserved for it until the block's end.

        Raises:
            CapsuleError: the capsule is not valid here.
            InputError: the session is another model's.
            PositionError: the text stands elsewhere than the caller believes.
            SessionError: the session cannot be used.
            UnknownModelError: no model of that name is served.
        """
        if place.session is None:
            yield await self.look_at(place, caller)
            return
        async with self._sessions.use(place.session, owner_tag(caller)) as session:
            contents, is_repeated = session.origin(place.expected_position, place.digest)
            yield _at(
                self._model_of(session, place.model),
                caller,
                contents,
                session=session,
                is_repeated=is_repeated,
                digest=place.digest,
            )

    async def look_at(self, place: Place, caller: str) -> Origin:
        """Find what a request continues from, without reserving a session; raises as `open`."""
        if place.session is not None:
            session = await self._sessions.get(place.session, owner_tag(caller))
            model = self._model_of(session, place.model)
            return _at(model, caller, session.current, session=session)
        if place.capsule is not None:
            found = self._of_capsule(place.model, place.capsule, caller)
        else:
            found = Origin(model=self._models.get(place.model), caller=caller)
        stands = 0 if found.snapshot is None else found.snapshot.position
        if place.expected_position not in (None, stands):
            raise PositionError(
                f"the text is at position {stands}, not {place.expected_position}; send the "
                "capsule or session of that position",
                actual=stands,
            )
        return found

    def seal(self, origin: Origin, sample: SequenceRequest, snapshot: Snapshot) -> bytes:
        """Write a capsule of where a sample stands."""
        contents = _contents(sample, snapshot)
        return self._codec(origin.model).seal(contents, owner_tag(origin.caller))

    async def advance(
        self, origin: Origin, sample: SequenceRequest, snapshot: Snapshot, *, is_whole: bool
    ) -> None:
        """Note where an answer left its session, if it has one and was not asked for again.

        An answer that is not whole cannot be asked for again: it would come out longer.
        """
        if origin.session is not None and not origin.is_repeated:
            digest = origin.digest if is_whole else NO_REQUEST
            await self._sessions.advance(origin.session, _contents(sample, snapshot), digest)

    def _of_capsule(self, name: str, capsule: bytes, caller: str) -> Origin:
        named = self._models.get(name) if name else None
        most = max(self._codec(model).size_limit for model in self._models.everyone)
        fingerprint, _ = check(capsule, self._keys, most)
        model = self._models.serving(fingerprint.hex())
        if named is not None and (model is None or model.name != named.name):
            model = named  # its codec tells what is wrong
        if model is None:
            raise ForeignCapsuleError(
                "capsule",
                f"its model, fingerprint {fingerprint.hex()[:12]}, is not served here; ask a "
                "server that serves that bundle",
            )
        contents = self._codec(model).open(capsule, owner_tag(caller))
        return _at(model, caller, contents)

    def _model_of(self, session: Session, name: str) -> ServedModel:
        model = self._models.serving(session.fingerprint)
        assert model is not None, "sessions of models that are not served are not found"
        if name and self._models.get(name).name != model.name:
            raise InputError(
                "model", f"is {shown(name)}, but the session belongs to model {model.name!r}"
            )
        return model

    def _codec(self, model: ServedModel) -> CapsuleCodec:
        codec = self._codecs.get(model.fingerprint)
        if codec is None:
            codec = self._codecs[model.fingerprint] = CapsuleCodec(
                self._keys, model.fingerprint, model.engine.layout
            )
        return codec


def _at(
    model: ServedModel,
    caller: str,
    contents: CapsuleContents,
    *,
    session: Session | None = None,
    is_repeated: bool = False,
    digest: bytes = NO_REQUEST,
) -> Origin:
    snapshot = contents.snapshot
    return Origin(
        model=model,
        caller=caller,
        sampler=contents.sampler,
        snapshot=snapshot if snapshot.position else None,
        session=session,
        is_repeated=is_repeated,
        digest=digest,
    )


def _contents(sample: SequenceRequest, snapshot: Snapshot) -> CapsuleContents:
    sampler = SamplerState(seed=sample.seed, sampling=sample.sampling)
    return CapsuleContents(sampler=sampler, snapshot=snapshot)
