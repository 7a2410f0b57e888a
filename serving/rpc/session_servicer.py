"""The calls about sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.access.call import Call
from serving.engine.models import Models
from serving.rpc.answers import write_session
from serving.rpc.translation import read_start
from serving.sessions.capsule import owner_tag
from serving.sessions.registry import Sessions
from serving.sessions.session import Session
from serving.texts.begin import begin, check_seeds
from serving.texts.limits import Limits
from serving.texts.origins import Origins, Place
from unroll.v1 import text_generation_pb2 as pb


class SessionServicer:
    """Starts, forks, rewinds, describes and ends sessions.

    Args:
        models: what is served.
        sessions: of all models.
        origins: opens capsules.
        limits: what a request may ask for.

    Each method takes its request and, in place of gRPC's context, the gate's Call.
    """

    def __init__(
        self, models: Models, sessions: Sessions, origins: Origins, limits: Limits
    ) -> None:
        self._models = models
        self._sessions = sessions
        self._origins = origins
        self._limits = limits

    async def StartSession(  # noqa: N802
        self, request: pb.StartSessionRequest, call: Call
    ) -> pb.StartSessionResponse:
        """Start a session, at the start symbol or from a capsule."""
        place = Place(model=request.model, capsule=request.capsule or None)
        origin = await self._origins.look_at(place, call.identity)
        call.model = origin.model.name
        owner, fingerprint = owner_tag(call.identity), origin.model.fingerprint
        session = await self._sessions.start(owner, fingerprint, begin(read_start(request), origin))
        return pb.StartSessionResponse(session=self._describe(session))

    async def ForkSession(  # noqa: N802
        self, request: pb.ForkSessionRequest, call: Call
    ) -> pb.ForkSessionResponse:
        """Start new sessions from the state of a session."""
        check_seeds(request.seeds, self._sessions.marks, self._limits)
        seeds = list(request.seeds)
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
        model = self._models.serving(session.fingerprint)
        symbols = "" if model is None else model.bundle.vocabulary.symbols
        expires = self._sessions.expires(session)
        return write_session(session, self._model_of(session), expires, symbols)
