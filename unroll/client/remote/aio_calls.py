"""The calls of a client for asyncio: to which servers, how often, with which errors."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from unroll.client.remote import answers, requests
from unroll.client.remote.aio_bulk import AsyncCallBulk
from unroll.client.remote.connection import (
    HEALTH_REQUEST,
    POLL_SECONDS,
    channel_options,
    check_retries,
    check_security,
    is_serving,
    not_ready,
    read_targets,
)
from unroll.client.remote.resume import BREAKS, Resumption, vocabulary_of
from unroll.client.remote.retry import Attempts
from unroll.client.remote.security import Security
from unroll.errors import ClosedError, UnrollError
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import (
    FoundUnits,
    Generation,
    Inspection,
    ModelInfo,
    Piece,
    Score,
    SessionInfo,
)
from unroll.sent import seconds_as_sent
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub
from unroll.wire import from_rpc_error


class AsyncCalls:
    """What a client and its sessions call servers with; arguments and errors as AsyncClient's."""

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        channel: grpc.aio.Channel | None,
        security: Security,
        retries: int,
    ) -> None:
        self.targets = read_targets(target, has_channel=channel is not None)
        check_security(security, self.targets, has_channel=channel is not None)
        self._retries = check_retries(retries)
        self._channels = _connect(self.targets, security) if channel is None else [channel]
        self._stubs = [
            TextGenerationServiceStub(security.authorize(each)) for each in self._channels
        ]
        self._stub = self._stubs[0]
        self._health = health_pb2_grpc.HealthStub(self._channels[0])
        self._is_closed = False

    async def generate(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generation:
        """See AsyncBackend."""
        request = requests.generate_request(prompt, options, origin)
        is_repeatable = not origin.session
        response = await self._ask(
            self._stub.Generate, request, timeout, is_repeatable=is_repeatable
        )
        return answers.read_generation(response)

    def stream(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> AsyncGenerator[Piece]:
        """See AsyncBackend."""
        request = requests.generate_request(prompt, options, origin)
        return self._pieces(request, seconds_as_sent(timeout))

    async def score(
        self, text: str, options: ScoreOptions, origin: Origin, timeout: float | None
    ) -> Score:
        """See AsyncBackend."""
        request = requests.score_request(text, options, origin)
        response = await self._ask(self._stub.Score, request, timeout)
        return answers.read_score(response)

    async def inspect(
        self, text: str, options: InspectOptions, origin: Origin, timeout: float | None
    ) -> Inspection:
        """See AsyncBackend."""
        request = requests.inspect_request(text, options, origin)
        return answers.read_inspection(await self._ask(self._stub.Inspect, request, timeout))

    async def find_units(
        self,
        text: str,
        targets: str,
        options: FindUnitsOptions,
        origin: Origin,
        timeout: float | None,
    ) -> FoundUnits:
        """See AsyncBackend."""
        request = requests.find_units_request(text, targets, options, origin)
        return answers.read_found_units(await self._ask(self._stub.FindUnits, request, timeout))

    async def generate_many(
        self, options: GenerateOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> AsyncCallBulk[Generation]:
        """See AsyncBackend."""
        common = requests.generate_request("", options, origin)
        first = pb.GenerateManyRequest(common=common, in_order=in_order)
        method, target = self._stub.GenerateMany, self.targets[0]
        write, read = requests.write_prompts, answers.read_generations
        with self._translating():
            return AsyncCallBulk(
                method, first, "prompt", write, read, timeout, target, in_order=in_order
            )

    async def score_many(
        self, options: ScoreOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> AsyncCallBulk[Score]:
        """See AsyncBackend."""
        common = requests.score_request("", options, origin)
        first = pb.ScoreManyRequest(common=common, in_order=in_order)
        method, target = self._stub.ScoreMany, self.targets[0]
        write, read = requests.write_texts, answers.read_scores
        with self._translating():
            return AsyncCallBulk(
                method, first, "text", write, read, timeout, target, in_order=in_order
            )

    async def start_session(
        self, options: SessionOptions, capsule: bytes, timeout: float | None
    ) -> SessionInfo:
        """See AsyncBackend."""
        request = requests.start_request(options, capsule)
        response = await self._ask(self._stub.StartSession, request, timeout, is_repeatable=False)
        return answers.read_session(response.session)

    async def get_session(self, session_id: str, timeout: float | None) -> SessionInfo:
        """See AsyncBackend."""
        request = requests.get_session_request(session_id)
        response = await self._ask(self._stub.GetSession, request, timeout)
        return answers.read_session(response.session)

    async def fork_session(
        self, session_id: str, seeds: Iterable[int], timeout: float | None
    ) -> list[SessionInfo]:
        """See AsyncBackend."""
        request = requests.fork_request(session_id, seeds)
        response = await self._ask(self._stub.ForkSession, request, timeout, is_repeatable=False)
        return [answers.read_session(fork) for fork in response.sessions]

    async def rewind_session(
        self, session_id: str, position: int, timeout: float | None
    ) -> SessionInfo:
        """See AsyncBackend."""
        request = requests.rewind_request(session_id, position)
        response = await self._ask(self._stub.RewindSession, request, timeout, is_repeatable=False)
        return answers.read_session(response.session)

    async def end_session(self, session_id: str, timeout: float | None) -> None:
        """See AsyncBackend."""
        request = pb.EndSessionRequest(session=session_id)
        await self._ask(self._stub.EndSession, request, timeout, is_repeatable=False)

    async def get_model(self, name: str, timeout: float | None) -> ModelInfo:
        """See AsyncBackend."""
        request = requests.model_request(name)
        return answers.read_model((await self._ask(self._stub.GetModel, request, timeout)).model)

    async def list_models(self, timeout: float | None) -> list[ModelInfo]:
        """See AsyncBackend."""
        response = await self._ask(self._stub.ListModels, pb.ListModelsRequest(), timeout)
        return [answers.read_model(model) for model in response.models]

    async def resume(self, resumption: Resumption) -> AsyncGenerator[Piece]:
        """Generate a text piece by piece, from one server after another."""
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
                if self._is_closed:
                    raise
                pause = resumption.break_off(error)
                await asyncio.sleep(pause)

    async def wait_until_ready(self, timeout: float) -> None:
        """Wait until the first server is ready."""
        ends = time.monotonic() + timeout
        with self._translating():
            while (left := ends - time.monotonic()) > 0:
                try:
                    if is_serving(
                        await self._health.Check(HEALTH_REQUEST, timeout=left, wait_for_ready=True)
                    ):
                        return
                except grpc.RpcError:  # nobody there yet, or somebody who is leaving
                    pass
                await asyncio.sleep(POLL_SECONDS)
        raise not_ready(self.targets[0], timeout)

    async def close(self) -> None:
        """Close the connections."""
        self._is_closed = True
        for channel in self._channels:
            await channel.close()

    async def _ask(
        self,
        method: Callable[..., Any],
        request: Message,
        timeout: float | None,
        *,
        is_repeatable: bool = True,
    ) -> Any:
        """Make a unary call, and make it again as far as that is allowed; see Attempts."""
        attempts = Attempts(self._retries, timeout, is_repeatable=is_repeatable)
        while True:
            try:
                with self._translating():
                    return await method(request, timeout=attempts.seconds_left)
            except UnrollError as error:
                await asyncio.sleep(attempts.pause(error))

    async def _pieces(
        self, request: pb.GenerateRequest, timeout: float | None
    ) -> AsyncGenerator[Piece]:
        piece = None
        async with aclosing(self._messages(0, request, timeout)) as received:
            async for message in received:
                piece = answers.read_piece(message)
                yield piece
        answers.check_ended(piece)

    async def _messages(
        self, target: int, request: pb.GenerateRequest, timeout: float | None
    ) -> AsyncGenerator[pb.StreamGenerateResponse]:
        with self._translating(target):
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
        with self._translating(resumption.target):
            stub, timeout = self._stubs[resumption.target], resumption.seconds_left
            models = await stub.ListModels(pb.ListModelsRequest(), timeout=timeout)
        return vocabulary_of(models, last.completion.fingerprint)

    @contextmanager
    def _translating(self, target: int = 0) -> Iterator[None]:
        """Turn what a call in the block raises into the errors of unroll.errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.targets[target]) from error
        except Exception as error:
            if self._is_closed:  # gRPC's channels then raise various
                raise ClosedError("this client is closed; make another one") from error
            raise


def _connect(targets: Sequence[str], security: Security) -> list[grpc.aio.Channel]:
    credentials = security.credentials()
    options = channel_options(is_encrypted=credentials is not None)
    return [
        grpc.aio.insecure_channel(target, options=options)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, options=options)
        for target in targets
    ]
