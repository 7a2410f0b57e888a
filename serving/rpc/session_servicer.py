"""The calls about sessions."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from serving.engine.models import Models
from serving.engine.snapshot import NO_LOG_PROBS, SamplerState, Snapshot
from serving.rpc.answers import write_sampling
from serving.rpc.call import Call
from serving.rpc.origins import Origin, Origins, Place
from serving.rpc.translation import read_sampling, read_seed
from serving.sessions.capsule import CapsuleContents, owner_tag
from serving.sessions.registry import Sessions
from serving.sessions.session import Session
from unroll.errors import InputError
from unroll.terms import SEED_LIMIT
from unroll.v1 import text_generation_pb2 as pb

FORKS_AT_MOST = 64


class SessionServicer:
    """Starts, forks, rewinds, describes and ends sessions.

    Args:
        models: what is served.
        sessions: of all models.
        origins: opens capsules.

    Each method takes its request and, in place of gRPC's context, the gate's Call.
    """

    def __init__(self, models: Models, sessions: Sessions, origins: Origins) -> None:
        self._models = models
        self._sessions = sessions
        self._origins = origins

    async def StartSession(  # noqa: N802
        self, request: pb.StartSessionRequest, call: Call
    ) -> pb.StartSessionResponse:
        """Start a session, at the start symbol or from a capsule."""
        place = Place(model=request.model, capsule=request.capsule or None)
        origin = await self._origins.look_at(place, call.identity)
        call.model = origin.model.name
        owner, fingerprint = owner_tag(call.identity), origin.model.fingerprint
        session = await self._sessions.start(owner, fingerprint, _begin(request, origin))
        return pb.StartSessionResponse(session=self._describe(session))

    async def ForkSession(  # noqa: N802
        self, request: pb.ForkSessionRequest, call: Call
    ) -> pb.ForkSessionResponse:
        """Start new sessions from the state of a session."""
        seeds = list(request.seeds)
        if not 1 <= len(seeds) <= FORKS_AT_MOST:
            raise InputError("seeds", f"must be 1 to {FORKS_AT_MOST}, got {len(seeds)}")
        for index, seed in enumerate(seeds):
            if seed < 0:
                raise InputError(f"seeds[{index}]", f"must be 0 or more, got {seed}")
        async with self._using(request.session, call) as session:
            forks = await self._sessions.fork(session, seeds)
        return pb.ForkSessionResponse(sessions=[self._describe(fork) for fork in forks])

    async def RewindSession(  # noqa: N802
        self, request: pb.RewindSessionRequest, call: Call
    ) -> pb.RewindSessionResponse:
        """Rewind a session to one of its marks."""
        async with self._using(request.session, call) as session:
            await self._sessions.rewind(session, request.position)
            return pb.RewindSessionResponse(session=self._describe(session))

    async def GetSession(  # noqa: N802
        self, request: pb.GetSessionRequest, call: Call
    ) -> pb.GetSessionResponse:
        """Describe a session."""
        session = await self._sessions.get(request.session, owner_tag(call.identity))
        call.model = self._model_of(session)
        return pb.GetSessionResponse(session=self._describe(session))

    async def EndSession(  # noqa: N802
        self, request: pb.EndSessionRequest, call: Call
    ) -> pb.EndSessionResponse:
        """End a session."""
        ended = await self._sessions.end(request.session, owner_tag(call.identity))
        call.model = self._model_of(ended)
        return pb.EndSessionResponse()

    @asynccontextmanager
    async def _using(self, session_id: str, call: Call) -> AsyncIterator[Session]:
        """Find a session of this caller and keep others out until the block's end."""
        async with self._sessions.use(session_id, owner_tag(call.identity)) as session:
            call.model = self._model_of(session)
            yield session

    def _model_of(self, session: Session) -> str:
        model = self._models.serving(session.fingerprint)
        return "" if model is None else model.name

    def _describe(self, session: Session) -> pb.Session:
        expires = self._sessions.expires(session)
        return pb.Session(
            id=session.session_id,
            model=self._model_of(session),
            fingerprint=session.fingerprint,
            position=session.position,
            marks=[mark.snapshot.position for mark in session.marks],
            seed=session.current.sampler.seed,
            sampling=write_sampling(session.current.sampler.sampling),
            create_time=_timestamp(session.created),
            expire_time=None if expires is None else _timestamp(expires),
        )


def _begin(request: pb.StartSessionRequest, origin: Origin) -> CapsuleContents:
    sampler = origin.sampler
    default_seed = secrets.randbelow(SEED_LIMIT) if sampler is None else sampler.seed
    begun = SamplerState(
        seed=read_seed(request, default_seed),
        sampling=read_sampling(request, None if sampler is None else sampler.sampling),
    )
    layout, vocabulary = origin.model.engine.layout, origin.model.bundle.vocabulary
    start = Snapshot(
        position=0,
        token=vocabulary.start_id,
        state=bytes(layout.size),
        held=np.zeros(0, np.int32),
        held_log_probs=NO_LOG_PROBS,
    )
    return CapsuleContents(sampler=begun, snapshot=origin.snapshot or start)


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
