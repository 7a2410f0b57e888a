"""A client for asyncio; see `blocking.py` for its twin for threads."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2_grpc

from unroll.client import messages
from unroll.client.aio_session import AsyncSession
from unroll.client.connection import (
    CHANNEL_OPTIONS,
    DEFAULT_TARGET,
    HEALTH_REQUEST,
    POLL_SECONDS,
    check_security,
    is_serving,
    not_ready,
    read_targets,
)
from unroll.client.options import GenerateOptions, Origin, ScoreOptions, SessionOptions
from unroll.client.results import Generation, ModelInfo, Piece, Score
from unroll.client.resume import BREAKS, Resumption, vocabulary_of
from unroll.client.security import Security
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub
from unroll.wire import from_rpc_error


class AsyncClient:
    """Calls a server; belongs to the event loop on which it was made.

    All methods raise the errors of serving.errors: InputError and its kin for what was asked,
    OverloadedError, DeadlineError, ClosedError and UnavailableError for what may pass,
    ServerError for the rest.

    Args:
        target: the server's address, as `host:port`, or several servers' addresses. All calls go
            to the first; the others are where a stream with `resume` goes on.
        channel: a channel of one's own (encryption, options) to use instead of a new plain one;
            the client closes it.
        security: encryption, certificates and token; by default none of them, for servers on this
            machine.

    Raises:
        InputError: the arguments do not fit together, or a token would go out in plain text.
        SettingsError: a file of certificates cannot be used.
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        channel: grpc.aio.Channel | None = None,
        security: Security = Security(),  # noqa: B008, frozen
    ) -> None:
        self.targets = read_targets(target, has_channel=channel is not None)
        check_security(security, self.targets, has_channel=channel is not None)
        self.target = self.targets[0]
        self._channels = _connect(self.targets, security) if channel is None else [channel]
        self._stubs = [
            TextGenerationServiceStub(security.authorize(each)) for each in self._channels
        ]
        self.stub = self._stubs[0]
        self._health = health_pb2_grpc.HealthStub(self._channels[0])

    async def generate(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        expected_position: int | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Continue a prompt and return the whole text.

        Args:
            prompt: the text to continue.
            options: how.
            session: id of the session to go on from and to advance; see `start_session`.
            capsule: of an earlier answer, to go on from instead.
            expected_position: where the session or capsule is believed to stand; a request that is
                repeated gets its answer again, and any other fails if that is not so.
            timeout: in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule, expected_position=expected_position)
        request = messages.generate_request(prompt, options, origin)
        with self.calling():
            return messages.read_generation(await self.stub.Generate(request, timeout=timeout))

    def stream(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        expected_position: int | None = None,
        resume: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[Piece]:
        """Continue a prompt and yield the text as it comes; the last piece tells how it ended.

        The call is made when the first piece is asked for. Closing the iterator early
        (`contextlib.aclosing`) cancels the call.

        Args:
            prompt: as in `generate`; likewise options, session, capsule and expected_position.
            options: how.
            session: to advance.
            capsule: to go on from.
            expected_position: of session or capsule.
            resume: whether, if its server fails or leaves, the text goes on from the last piece on
                the client's next target. The whole is the same as without the break. A server that
                is full counts as one that left. Pieces carry capsules; sessions and several samples
                cannot be resumed.
            timeout: of the whole, in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule, expected_position=expected_position)
        if resume:
            resumption = Resumption(
                prompt, options, origin, target_count=len(self.targets), timeout=timeout
            )
            return self._resumed(resumption)
        return self._pieces(messages.generate_request(prompt, options, origin), timeout)

    async def score(
        self,
        text: str,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> Score:
        """Give the log-probability of each symbol of a text.

        Args:
            text: to judge.
            options: how.
            session: id of a session that the text is judged as a continuation of; it stays where
                it is.
            capsule: of an earlier answer, instead.
            timeout: in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule)
        request = messages.score_request(text, options, origin)
        with self.calling():
            return messages.read_score(await self.stub.Score(request, timeout=timeout))

    async def start_session(
        self,
        options: SessionOptions = SessionOptions(),  # noqa: B008, frozen
        *,
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncSession:
        """Start a session: a text that the server keeps the state of.

        Args:
            options: what it begins with.
            capsule: of an earlier answer, to start where that ended; by default at the start.
            timeout: in seconds; None waits for ever.
        """
        request = messages.start_request(options, capsule)
        with self.calling():
            response = await self.stub.StartSession(request, timeout=timeout)
        return AsyncSession(self, messages.read_session(response.session))

    async def get_session(self, session_id: str, *, timeout: float | None = None) -> AsyncSession:
        """Find a session that was started before, by its id."""
        request = messages.get_session_request(session_id)
        with self.calling():
            response = await self.stub.GetSession(request, timeout=timeout)
        return AsyncSession(self, messages.read_session(response.session))

    async def get_model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Describe one model, by default the server's first."""
        request = messages.model_request(name)
        with self.calling():
            return messages.read_model((await self.stub.GetModel(request, timeout=timeout)).model)

    async def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Describe all models; the first is the default."""
        with self.calling():
            response = await self.stub.ListModels(pb.ListModelsRequest(), timeout=timeout)
        return [messages.read_model(model) for model in response.models]

    async def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Wait until a server answers and says that it serves.

        Args:
            timeout: in seconds.

        Raises:
            UnavailableError: it did not within the timeout.
        """
        ends = time.monotonic() + timeout
        while (left := ends - time.monotonic()) > 0:
            try:
                if is_serving(
                    await self._health.Check(HEALTH_REQUEST, timeout=left, wait_for_ready=True)
                ):
                    return
            except grpc.RpcError:  # nobody there yet, or somebody who is leaving
                pass
            await asyncio.sleep(POLL_SECONDS)
        raise not_ready(self.target, timeout)

    async def close(self) -> None:
        """Close the connection; calls that run are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _pieces(
        self, request: pb.GenerateRequest, timeout: float | None
    ) -> AsyncGenerator[Piece]:
        piece = None
        async with aclosing(self._messages(0, request, timeout)) as received:
            async for message in received:
                piece = messages.read_piece(message)
                yield piece
        messages.check_ended(piece)

    async def _resumed(self, resumption: Resumption) -> AsyncGenerator[Piece]:
        piece = None
        resumption.begin()
        while piece is None or piece.completion is None:
            attempt = self._messages(resumption.target, resumption.request, resumption.seconds_left)
            try:
                async with aclosing(attempt) as received:
                    async for message in received:
                        vocabulary = await self._vocabulary(resumption, message)
                        piece = resumption.take(message, vocabulary)
                        if piece.text or piece.completion is not None:
                            yield piece
                resumption.check_ended(piece)
            except BREAKS as error:
                pause = resumption.break_off(error)
                await asyncio.sleep(pause)

    async def _messages(
        self, target: int, request: pb.GenerateRequest, timeout: float | None
    ) -> AsyncGenerator[pb.StreamGenerateResponse]:
        with self.calling(target):
            call = self._stubs[target].StreamGenerate(request, timeout=timeout)
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()  # nothing to an ended call

    async def _vocabulary(self, resumption: Resumption, last: pb.StreamGenerateResponse) -> str:
        reason = last.completion.finish_reason
        is_end = reason not in {pb.FINISH_REASON_UNSPECIFIED, pb.FINISH_REASON_SHUTDOWN}
        if not resumption.needs_vocabulary or not is_end:
            return ""
        with self.calling(resumption.target):
            stub, timeout = self._stubs[resumption.target], resumption.seconds_left
            models = await stub.ListModels(pb.ListModelsRequest(), timeout=timeout)
        return vocabulary_of(models, last.completion.fingerprint)

    @contextmanager
    def calling(self, target: int = 0) -> Iterator[None]:
        """Turn what a call in the block raises into the errors of serving.errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.targets[target]) from error


def _connect(targets: Sequence[str], security: Security) -> list[grpc.aio.Channel]:
    credentials = security.credentials()
    return [
        grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        for target in targets
    ]
