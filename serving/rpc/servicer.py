"""The gRPC service: translates, and lets the engines do the rest."""

import time
from collections.abc import Sized
from contextlib import AbstractAsyncContextManager
from functools import partial

from serving.access.call import Call
from serving.engine.models import Models
from serving.rpc.answers import (
    send_piece,
    write_answer,
    write_found_units,
    write_inspection,
    write_model,
    write_model_status,
    write_score,
    write_time,
)
from serving.rpc.many_servicer import ManyServicer
from serving.rpc.translation import (
    read_find_units,
    read_generate,
    read_inspect,
    read_place,
    read_score,
)
from serving.sessions.registry import Sessions
from serving.texts.inspect.inspection import Inspections
from serving.texts.limits import Limits
from serving.texts.loop import translate
from serving.texts.origins import Origin, Origins
from serving.texts.parse.score import parse_score
from serving.texts.text import Text, Texts, whole
from unroll.v1 import text_generation_pb2 as pb


class TextGenerationServicer(ManyServicer):
    """Answers calls on an event loop to which the models' engines deliver.

    Args:
        models, sessions, origins, limits: as its base.
        in_memory: has the length of how many sessions are in memory.

    Attributes:
        texts: that it opens.
    """

    def __init__(
        self,
        models: Models,
        sessions: Sessions,
        origins: Origins,
        limits: Limits,
        in_memory: Sized,
    ) -> None:
        super().__init__(models, sessions, origins, limits)
        self.texts = Texts(origins, limits)
        self._inspections = Inspections(limits)
        self._in_memory = in_memory
        self._started = time.time()

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, call: Call
    ) -> pb.GenerateResponse:
        """Continue a prompt and return the whole text at once."""
        async with self._generating(request, call, is_streamed=False) as text:
            parts = await text.wholes()
            told = 1 + text.parsed.request.alternatives
            first, *further = [
                await translate(len(part.chunk.text) * told, write_answer, text, part)
                for part in parts
            ]
            first.further_samples.extend(further)
            return first

    # Written as a coroutine and not as an async generator: gRPC does not close a generator when
    # the call is cancelled during a write, and the slot would stay taken until it is collected.
    async def StreamGenerate(  # noqa: N802
        self, request: pb.GenerateRequest, call: Call
    ) -> None:
        """Continue a prompt and send the text as it comes."""
        async with self._generating(request, call, is_streamed=True) as text:
            await text.stream(partial(send_piece, call, text))

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, call: Call
    ) -> pb.ScoreResponse:
        """Return the log-probability of each symbol of a text."""
        origin = await self._look_at(request, call)
        symbols = len(request.text)
        parsed = await translate(
            symbols,
            parse_score,
            request.text,
            read_score(request),
            origin,
            self._limits,
            call,
        )
        call.symbols_read = len(parsed.request.prompt)
        scored = await whole(origin, parsed.request)
        told = symbols * (1 + parsed.request.alternatives)
        return await translate(told, write_score, parsed, scored, origin.model)

    async def Inspect(  # noqa: N802
        self, request: pb.InspectRequest, call: Call
    ) -> pb.InspectResponse:
        """Read a text and show what the model does at each symbol."""
        origin = await self._look_at(request, call)
        found = await self._inspections.inspect(
            request.text, read_inspect(request), origin, call.deadline
        )
        call.symbols_read = len(found.text)
        told = len(found.text) * (1 + len(request.units) + request.top_log_probs)
        return await translate(told, write_inspection, found)

    async def FindUnits(  # noqa: N802
        self, request: pb.FindUnitsRequest, call: Call
    ) -> pb.FindUnitsResponse:
        """Find the hidden units that follow something."""
        origin = await self._look_at(request, call)
        found = await self._inspections.find_units(
            request.text, request.targets, read_find_units(request), origin, call.deadline
        )
        call.symbols_read = found.usage.prompt_symbols
        return write_found_units(found)

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

    async def GetStatus(  # noqa: N802
        self, request: pb.GetStatusRequest, call: Call
    ) -> pb.GetStatusResponse:
        """Tell what the server is doing."""
        return pb.GetStatusResponse(
            models=[write_model_status(model) for model in self._models.everyone],
            sessions_in_use=self._sessions.in_use,
            sessions_in_memory=len(self._in_memory),
            start_time=write_time(self._started),
        )

    async def _look_at(
        self, request: pb.ScoreRequest | pb.InspectRequest | pb.FindUnitsRequest, call: Call
    ) -> Origin:
        origin = await self._origins.look_at(read_place(request), call.identity)
        call.model = origin.model.name
        return origin

    def _generating(
        self, request: pb.GenerateRequest, call: Call, *, is_streamed: bool
    ) -> AbstractAsyncContextManager[Text]:
        """Open the text that a request asks for."""
        place, options = read_place(request), read_generate(request)
        return self.texts.open(call, place, request.prompt, options, is_streamed=is_streamed)
