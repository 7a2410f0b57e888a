"""The gRPC service: translates, and lets the engines do the rest."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc.aio import AbortError, ServicerContext

from protos.unroll.v1 import text_generation_pb2 as pb
from protos.unroll.v1.text_generation_pb2_grpc import TextGenerationServiceServicer
from serving.errors import CancelledError, UnrollError
from serving.models import Models
from serving.reply import Reply
from serving.status import to_status
from serving.translation import (
    Limits,
    read_generate,
    read_score,
    write_completion,
    write_model,
    write_score,
)

log = logging.getLogger(__name__)


class TextGenerationServicer(TextGenerationServiceServicer):
    """Answers calls on an event loop to which the models' engines deliver.

    Args:
        models: what is served.
        limits: what a request may ask for.
    """

    def __init__(self, models: Models, limits: Limits) -> None:
        self._models = models
        self._limits = limits
        self._running: set[asyncio.Task[Any]] = set()

    async def Generate(  # noqa: N802
        self,
        request: pb.GenerateRequest,
        context: ServicerContext[pb.GenerateRequest, pb.GenerateResponse],
    ) -> pb.GenerateResponse:
        """Continue a prompt and return the whole text at once."""
        async with self._answering(context):
            model = self._models.get(request.model)
            asked = read_generate(
                request, model.bundle.vocabulary, self._limits, _deadline(context)
            )
            async with Reply(model.engine, asked.request) as reply:
                whole = await reply.whole()
            return pb.GenerateResponse(
                text=whole.text,
                log_probs=whole.log_probs.tolist() if request.log_probs else None,
                completion=write_completion(asked, whole, model.bundle.manifest.fingerprint),
            )

    # Written as a coroutine and not as an async generator: gRPC does not close a generator when
    # the call is cancelled during a write, and the slot would stay taken until it is collected.
    async def StreamGenerate(  # type: ignore[override]  # noqa: N802
        self,
        request: pb.GenerateRequest,
        context: ServicerContext[pb.GenerateRequest, pb.StreamGenerateResponse],
    ) -> None:
        """Continue a prompt and send the text as it comes."""
        async with self._answering(context):
            model = self._models.get(request.model)
            asked = read_generate(
                request, model.bundle.vocabulary, self._limits, _deadline(context)
            )
            fingerprint = model.bundle.manifest.fingerprint
            async with Reply(model.engine, asked.request) as reply:
                async for chunk in reply:
                    last = chunk.finish is not None
                    message = pb.StreamGenerateResponse(
                        text=chunk.text,
                        log_probs=chunk.log_probs.tolist() if request.log_probs else None,
                        completion=write_completion(asked, chunk, fingerprint) if last else None,
                    )
                    await _write(context, message)

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, context: ServicerContext[pb.ScoreRequest, pb.ScoreResponse]
    ) -> pb.ScoreResponse:
        """Give the log-probability of each symbol of a text."""
        async with self._answering(context):
            model = self._models.get(request.model)
            # A million symbols take 0.1 s to translate: on another thread, streams go on.
            asked = await asyncio.to_thread(
                read_score, request, model.bundle.vocabulary, self._limits, _deadline(context)
            )
            async with Reply(model.engine, asked.request) as reply:
                whole = await reply.whole()
            return await asyncio.to_thread(
                write_score, asked, whole.log_probs, model.bundle.manifest.fingerprint
            )

    async def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,
        context: ServicerContext[pb.GetModelRequest, pb.GetModelResponse],
    ) -> pb.GetModelResponse:
        """Describe one model."""
        async with self._answering(context):
            return pb.GetModelResponse(model=write_model(self._models.get(request.model)))

    async def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,
        context: ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse],
    ) -> pb.ListModelsResponse:
        """Describe all models."""
        async with self._answering(context):
            return pb.ListModelsResponse(models=[write_model(model) for model in self._models])

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no call is running, for so long at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    @asynccontextmanager
    async def _answering(self, context: ServicerContext[Any, Any]) -> AsyncIterator[None]:
        """Keep account of a call, and answer what it raises with a status.

        The account ends with gRPC's own task, which sends the status after the handler's end.
        """
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            yield
        except asyncio.CancelledError:
            if context.cancelled():  # by the client, its deadline or the server's stop
                raise
            # gRPC would send no status at all, and the client would wait for ever (grpc#29248).
            await context.abort_with_status(to_status(CancelledError("the call was cancelled")))
        except AbortError:
            raise
        except UnrollError as error:
            await context.abort_with_status(to_status(error))
        except Exception as error:
            if context.cancelled():  # a write to a client that has gone
                return
            log.exception("a call failed for a reason that should not exist")
            await context.abort_with_status(to_status(error))


def _deadline(context: ServicerContext[Any, Any]) -> float | None:
    remaining: float | None = context.time_remaining()  # None without one, whatever its stub says
    return None if remaining is None else time.monotonic() + remaining


async def _write(context: ServicerContext[Any, Any], message: Any) -> None:
    """Send a message; returns once the reader has room.

    A cancellation waits for the write to end, well or badly: gRPC takes no status before.
    """
    writing = asyncio.ensure_future(context.write(message))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()  # the call's end, which the caller learns by the cancellation
        raise
