"""One call of ModelStreamInfer: requests as they come, and their answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager

import grpc

from serving.access.call import Call
from serving.engine.models import Models
from serving.texts.loop import one_error
from serving.triton import inference_pb2 as pb
from serving.triton.answers import FINAL, Asked
from serving.triton.inference import Answer, Inference
from serving.triton.step import ID_LENGTH_AT_MOST
from serving.triton.tensors import write_parameters
from unroll.errors import ClosedError, UnrollError
from unroll.wire import describe

AT_ONCE = 256  # requests of one call that are answered at once; further ones wait unread
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class InferStream:
    """Answers the requests of one call, side by side, each under its id.

    A request that fails is answered with its error, and the others go on. Answers of models that
    have one a request come in the order of the requests.

    Args:
        models: what is served.
        inference: answers requests.
        call: that asks.
        closing: is set when no more requests are to be read.
    """

    def __init__(
        self, models: Models, inference: Inference, call: Call, closing: asyncio.Event
    ) -> None:
        self._models = models
        self._inference = inference
        self._call = call
        self._closing = closing
        self._room = asyncio.Semaphore(AT_ONCE)
        self._running = 0
        self._held: list[AbstractContextManager[object]] = []  # which is whose makes no difference
        self._writing = asyncio.Lock()

    async def run(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        """Answer requests until there are no more.

        Raises:
            ClosedError: the server reads no more of them.
        """
        before: asyncio.Task[None] | None = None  # of a model with one answer a request
        async with one_error(), asyncio.TaskGroup() as group:
            async for message in self._read(requests):
                await self._room.acquire()
                asked = self._ask(message)
                if isinstance(asked, Asked) and asked.face.is_decoupled:
                    task = group.create_task(self._answer(message, asked, None))
                else:
                    task = before = group.create_task(self._answer(message, asked, before))
                task.add_done_callback(lambda _: self._room.release())
        if self._closing.is_set():
            raise ClosedError("the server takes no more requests; call again")

    def _ask(self, message: pb.ModelInferRequest) -> Asked | UnrollError:
        try:
            return Asked.of(message, self._models)
        except UnrollError as error:
            return error

    async def _read(
        self, requests: AsyncIterator[pb.ModelInferRequest]
    ) -> AsyncIterator[pb.ModelInferRequest]:
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while True:
                reading = asyncio.ensure_future(anext(requests, None))
                try:
                    await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not reading.cancel() and not reading.cancelled():
                        reading.exception()  # if nobody asks, asyncio writes it into the log
                if not reading.done() or (message := reading.result()) is None:
                    return
                yield message
        finally:
            closing.cancel()

    async def _answer(
        self,
        message: pb.ModelInferRequest,
        asked: Asked | UnrollError,
        before: asyncio.Task[None] | None,
    ) -> None:
        """Answer one request, the last message not before another task's."""
        try:
            if isinstance(asked, UnrollError):
                raise asked
            with self._counted():
                last = await self._answer_well(asked)
        except UnrollError as error:
            last = _refusal(message, error)
        if before is not None:
            await asyncio.wait([before])
        if last is not None:
            await self._write(last)

    async def _answer_well(self, asked: Asked) -> pb.ModelStreamInferResponse | None:
        """Send a text's pieces; return a message that is left to be sent."""
        request = asked.request
        if not request.is_streamed:
            whole = await self._inference.whole(self._call, request)
            if not request.wants_empty_end:
                return _response(asked, whole, is_final=True)
            await self._write(_response(asked, whole, is_final=False))
            return _response(asked, None, is_final=True)

        async def send(answer: Answer) -> None:
            is_final = bool(answer.finish_reason) and not request.wants_empty_end
            await self._write(_response(asked, answer, is_final=is_final))

        await self._inference.stream(self._call, request, send)
        return _response(asked, None, is_final=True) if request.wants_empty_end else None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count all requests but one as calls of the caller, beside the call itself."""
        if self._running:
            self._held.append(self._call.hold(1))
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._held:
                self._held.pop().__exit__(None, None, None)

    async def _write(self, message: pb.ModelStreamInferResponse) -> None:
        async with self._writing:
            await self._call.write(message)


def _response(
    asked: Asked, answer: Answer | None, *, is_final: bool
) -> pb.ModelStreamInferResponse:
    written = asked.write(answer, is_final=is_final)
    return pb.ModelStreamInferResponse(infer_response=written)


def _refusal(message: pb.ModelInferRequest, error: UnrollError) -> pb.ModelStreamInferResponse:
    """Tell why a request failed, as clients of Triton write it: `[CODE] message`."""
    status = describe(error)
    refusal = pb.ModelStreamInferResponse(error_message=f"[{_CODES[status.code]}] {status.message}")
    refusal.infer_response.id = message.id[:ID_LENGTH_AT_MOST]
    write_parameters(refusal.infer_response, {FINAL: True})
    return refusal
