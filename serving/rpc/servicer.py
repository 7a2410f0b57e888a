"""The gRPC service: translates, and lets the engines do the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from grpc.aio import ServicerContext

from serving.engine.models import Models
from serving.engine.request import Chunk, SequenceRequest
from serving.rpc.answering import deadline_of, owner, write
from serving.rpc.origins import Origin, Origins
from serving.rpc.reply import Reply
from serving.rpc.requests import current_call
from serving.rpc.session_servicer import SessionServicer
from serving.rpc.translation import (
    Limits,
    Parsed,
    read_generate,
    read_score,
    write_completion,
    write_model,
    write_score,
)
from serving.sessions.registry import Sessions
from unroll.terms import SEED_LIMIT, Capsules, FinishReason
from unroll.v1 import text_generation_pb2 as pb

Turn = AbstractAsyncContextManager[None]
GenerateContext = ServicerContext[pb.GenerateRequest, pb.StreamGenerateResponse]


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
        self,
        request: pb.GenerateRequest,
        context: ServicerContext[pb.GenerateRequest, pb.GenerateResponse],
    ) -> pb.GenerateResponse:
        """Continue a prompt and return the whole text at once."""
        async with self._generating(request, context, is_streamed=False) as (origin, parsed):
            if request.sample_count <= 1:
                whole = await _whole(origin, parsed.request)
                return await self._answer(request, origin, parsed, parsed.request, whole)
            samples = await _share_prompt(origin, parsed.request, request.sample_count)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_whole(origin, sample)) for sample in samples]
            first, *further = [
                await self._answer(request, origin, parsed, sample, task.result())
                for sample, task in zip(samples, tasks, strict=True)
            ]
            first.further_samples.extend(further)
            return first

    # Written as a coroutine and not as an async generator: gRPC does not close a generator when
    # the call is cancelled during a write, and the slot would stay taken until it is collected.
    async def StreamGenerate(  # type: ignore[override]  # noqa: N802
        self, request: pb.GenerateRequest, context: GenerateContext
    ) -> None:
        """Continue a prompt and send the text as it comes."""
        async with self._generating(request, context, is_streamed=True) as (origin, parsed):

            async def send(sample: SequenceRequest, index: int, turn: Turn) -> None:
                async with Reply(origin.model.engine, sample) as reply:
                    async for chunk in reply:
                        if chunk.text or chunk.finish:
                            answer = await self._answer(request, origin, parsed, sample, chunk)
                            async with turn:
                                await write(context, _as_message(answer, index))

            if request.sample_count <= 1:
                await send(parsed.request, 0, nullcontext())
                return
            samples = await _share_prompt(origin, parsed.request, request.sample_count)
            turn = asyncio.Lock()  # gRPC takes one write at a time
            async with asyncio.TaskGroup() as group:
                for index, sample in enumerate(samples):
                    group.create_task(send(sample, index, turn))

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, context: ServicerContext[pb.ScoreRequest, pb.ScoreResponse]
    ) -> pb.ScoreResponse:
        """Give the log-probability of each symbol of a text."""
        async with self._answering(context):
            origin = await self._origins.look_at(request, owner())
            current_call().model = origin.model.name
            # A million symbols take 0.1 s to translate: on another thread, streams go on.
            parsed = await asyncio.to_thread(
                read_score, request, origin, self._limits, deadline_of(context)
            )
            current_call().symbols_read = len(parsed.request.prompt)
            whole = await _whole(origin, parsed.request)
            return await asyncio.to_thread(
                write_score, parsed, whole.log_probs, origin.model.bundle.manifest.fingerprint
            )

    async def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,
        context: ServicerContext[pb.GetModelRequest, pb.GetModelResponse],
    ) -> pb.GetModelResponse:
        """Describe one model."""
        async with self._answering(context):
            model = self._models.get(request.model)
            current_call().model = model.name
            return pb.GetModelResponse(model=write_model(model))

    async def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,
        context: ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse],
    ) -> pb.ListModelsResponse:
        """Describe all models."""
        async with self._answering(context):
            return pb.ListModelsResponse(models=[write_model(model) for model in self._models])

    @asynccontextmanager
    async def _generating(
        self,
        request: pb.GenerateRequest,
        context: ServicerContext[Any, Any],
        *,
        is_streamed: bool,
    ) -> AsyncIterator[tuple[Origin, Parsed]]:
        """Find what a request goes on from, keep a session for it, and translate the request."""
        async with (
            self._answering(context),
            self._origins.open(request, owner()) as origin,
        ):
            current_call().model = origin.model.name
            parsed = read_generate(
                request, origin, self._limits, deadline_of(context), is_streamed=is_streamed
            )
            current_call().symbols_read = len(parsed.request.prompt)
            try:
                yield origin, parsed
            except ExceptionGroup as group:  # of the samples' tasks: the first tells what is wrong
                raise _first(group) from None

    async def _answer(
        self,
        request: pb.GenerateRequest,
        origin: Origin,
        parsed: Parsed,
        sample: SequenceRequest,
        chunk: Chunk,
    ) -> pb.GenerateResponse:
        """Translate a chunk; with the last one of a session's answer, the session advances."""
        answer = pb.GenerateResponse(
            text=chunk.text,
            log_probs=chunk.log_probs.tolist() if request.log_probs and chunk.text else None,
        )
        current_call().symbols_written += len(chunk.text)
        capsule = b""
        if chunk.snapshot is not None:
            if chunk.finish:
                is_whole = chunk.finish is not FinishReason.SHUTDOWN
                await self._origins.advance(origin, sample, chunk.snapshot, is_whole=is_whole)
            if sample.snapshots is Capsules.EVERY_CHUNK or parsed.wants_last_capsule:
                capsule = origin.seal(sample, chunk.snapshot)
        if chunk.finish:
            answer.completion.CopyFrom(write_completion(parsed, sample, chunk, origin))
        answer.completion.capsule = capsule
        return answer


def _as_message(answer: pb.GenerateResponse, index: int) -> pb.StreamGenerateResponse:
    """Turn an answer into a streamed one, whose capsule stands beside the completion."""
    capsule = answer.completion.capsule
    answer.completion.ClearField("capsule")
    is_last = bool(answer.completion.finish_reason)
    return pb.StreamGenerateResponse(
        text=answer.text,
        log_probs=answer.log_probs,
        completion=answer.completion if is_last else None,
        sample_index=index,
        capsule=capsule,
    )


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
