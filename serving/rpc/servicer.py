"""The gRPC service: translates, and lets the engines do the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace

import numpy as np

from serving.engine.models import Models
from serving.engine.request import Chunk, SequenceRequest
from serving.rpc.answers import write_answer, write_model, write_piece, write_score
from serving.rpc.call import Call
from serving.rpc.origins import Origin, Origins
from serving.rpc.reply import Reply
from serving.rpc.session_servicer import SessionServicer
from serving.rpc.translation import Limits, Parsed, read_generate, read_place, read_score
from serving.sessions.registry import Sessions
from unroll.terms import SEED_LIMIT, Capsules, FinishReason
from unroll.v1 import text_generation_pb2 as pb

Turn = AbstractAsyncContextManager[None]


class TextGenerationServicer(SessionServicer):
    """Answers calls on an event loop to which the models' engines deliver.

    Args:
        models: what is served.
        sessions: of all models.
        origins: finds what requests go on from.
        limits: what a request may ask for.
    """

    def __init__(
        self, models: Models, sessions: Sessions, origins: Origins, limits: Limits
    ) -> None:
        super().__init__(models, sessions, origins)
        self._limits = limits

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, call: Call
    ) -> pb.GenerateResponse:
        """Continue a prompt and return the whole text at once."""
        async with self._generating(request, call, is_streamed=False) as (origin, parsed):
            if request.sample_count <= 1:
                samples = [parsed.request]
                wholes = [await _whole(origin, parsed.request)]
            else:
                samples = await _share_prompt(origin, parsed.request, request.sample_count)
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(_whole(origin, sample)) for sample in samples]
                wholes = [task.result() for task in tasks]
            first, *further = [
                await self._answer(call, origin, parsed, sample, whole)
                for sample, whole in zip(samples, wholes, strict=True)
            ]
            first.further_samples.extend(further)
            return first

    # Written as a coroutine and not as an async generator: gRPC does not close a generator when
    # the call is cancelled during a write, and the slot would stay taken until it is collected.
    async def StreamGenerate(  # noqa: N802
        self, request: pb.GenerateRequest, call: Call
    ) -> None:
        """Continue a prompt and send the text as it comes."""
        async with self._generating(request, call, is_streamed=True) as (origin, parsed):

            async def send(sample: SequenceRequest, index: int, turn: Turn) -> None:
                async with Reply(origin.model.engine, sample) as reply:
                    async for chunk in reply:
                        if chunk.text or chunk.finish:
                            capsule = await self._settle(call, origin, parsed, sample, chunk)
                            message = write_piece(parsed, origin, sample, chunk, capsule, index)
                            async with turn:
                                await call.write(message)

            if request.sample_count <= 1:
                await send(parsed.request, 0, nullcontext())
                return
            samples = await _share_prompt(origin, parsed.request, request.sample_count)
            turn = asyncio.Lock()  # gRPC takes one write at a time
            async with asyncio.TaskGroup() as group:
                for index, sample in enumerate(samples):
                    group.create_task(send(sample, index, turn))

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, call: Call
    ) -> pb.ScoreResponse:
        """Return the log-probability of each symbol of a text."""
        origin = await self._origins.look_at(read_place(request), call.identity)
        call.model = origin.model.name
        # A million symbols take 0.1 s to translate: on another thread, streams go on.
        parsed = await asyncio.to_thread(
            read_score, request, origin, self._limits, call.deadline, call.account
        )
        call.symbols_read = len(parsed.request.prompt)
        whole = await _whole(origin, parsed.request)
        return await asyncio.to_thread(
            write_score, parsed, whole.log_probs, origin.model.fingerprint
        )

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, call: Call
    ) -> pb.GetModelResponse:
        """Describe one model."""
        model = self._models.get(request.model)
        call.model = model.name
        return pb.GetModelResponse(model=write_model(model))

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, call: Call
    ) -> pb.ListModelsResponse:
        """Describe all models."""
        return pb.ListModelsResponse(models=[write_model(model) for model in self._models])

    @asynccontextmanager
    async def _generating(
        self, request: pb.GenerateRequest, call: Call, *, is_streamed: bool
    ) -> AsyncIterator[tuple[Origin, Parsed]]:
        """Find what a request goes on from, keep a session for it, and translate the request."""
        async with self._origins.open(read_place(request), call.identity) as origin:
            call.model = origin.model.name
            parsed = read_generate(
                request,
                origin,
                self._limits,
                call.deadline,
                call.account,
                is_streamed=is_streamed,
            )
            call.symbols_read = len(parsed.request.prompt)
            more = request.sample_count - 1
            try:
                with call.hold(more) if more > 0 else nullcontext():
                    yield origin, parsed
            except ExceptionGroup as group:  # of the samples' tasks: the first tells what is wrong
                raise _first(group) from None

    async def _answer(
        self, call: Call, origin: Origin, parsed: Parsed, sample: SequenceRequest, whole: Chunk
    ) -> pb.GenerateResponse:
        capsule = await self._settle(call, origin, parsed, sample, whole)
        return write_answer(parsed, origin, sample, whole, capsule)

    async def _settle(
        self, call: Call, origin: Origin, parsed: Parsed, sample: SequenceRequest, chunk: Chunk
    ) -> bytes:
        """Count a chunk; with the last one of a session's answer, the session advances.

        Returns:
            A capsule of where the chunk ends, if it has a snapshot and capsules are wanted.
        """
        call.symbols_written += len(chunk.text)
        if chunk.snapshot is None:
            return b""
        if chunk.finish:
            is_whole = chunk.finish is not FinishReason.SHUTDOWN
            await self._origins.advance(origin, sample, chunk.snapshot, is_whole=is_whole)
        if not parsed.wants_capsule:
            return b""
        return self._origins.seal(origin, sample, chunk.snapshot)


async def _whole(origin: Origin, sample: SequenceRequest) -> Chunk:
    async with Reply(origin.model.engine, sample) as reply:
        return await reply.whole()


async def _share_prompt(
    origin: Origin, request: SequenceRequest, count: int
) -> list[SequenceRequest]:
    """Return one request for each of several samples; the prompt has been read already."""
    start = request.origin
    if len(request.prompt):
        reading = replace(
            request, max_new_symbols=0, stop=(), snapshots=Capsules.FINAL, buffer_symbols=None
        )
        start = (await _whole(origin, reading)).snapshot
    return [
        replace(
            request,
            prompt=np.zeros(0, np.int64),
            origin=start,
            seed=(request.seed + index) % SEED_LIMIT,
        )
        for index in range(count)
    ]


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
