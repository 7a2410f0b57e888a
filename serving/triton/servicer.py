"""`inference.GRPCInferenceService`: translates, and lets the engines do the rest."""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version

from serving.access.call import Call
from serving.engine.models import Models
from serving.rpc.health import Health
from serving.triton import inference_pb2 as pb
from serving.triton.answers import Asked
from serving.triton.faces import PLATFORM, find
from serving.triton.inference import Inference
from serving.triton.stream import InferStream
from unroll.errors import InputError, UnknownModelError

EXTENSIONS = ("generate", "model_configuration", "parameters", "sequence", "sequence(string_id)")


class InferenceServicer:
    """Answers calls; each method takes its request and the gate's Call.

    Args:
        models: what is served.
        health: of the server.
        inference: answers requests for texts.
    """

    def __init__(self, models: Models, health: Health, inference: Inference) -> None:
        self._models = models
        self._health = health
        self._inference = inference
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Read no more requests from streams, which end once those that run are answered."""
        self._closing.set()

    async def ServerLive(  # noqa: N802
        self, request: pb.ServerLiveRequest, call: Call
    ) -> pb.ServerLiveResponse:
        """Tell that the server runs."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: pb.ServerReadyRequest, call: Call
    ) -> pb.ServerReadyResponse:
        """Tell whether the server as a whole can be used."""
        return pb.ServerReadyResponse(ready=self._health.is_serving)

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, call: Call
    ) -> pb.ModelReadyResponse:
        """Tell whether a model can be used; one that is not served cannot."""
        return pb.ModelReadyResponse(
            ready=is_ready(self._models, self._health, request.name, request.version)
        )

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, call: Call
    ) -> pb.ServerMetadataResponse:
        """Describe the server."""
        return pb.ServerMetadataResponse(
            name=PLATFORM, version=version("unroll"), extensions=EXTENSIONS
        )

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, call: Call
    ) -> pb.ModelMetadataResponse:
        """Describe a model's inputs and outputs."""
        face = find(self._models, request.name, request.version)
        call.model = face.model.name
        return face.metadata()

    async def ModelConfig(  # noqa: N802
        self, request: pb.ModelConfigRequest, call: Call
    ) -> pb.ModelConfigResponse:
        """Describe how a model is run."""
        face = find(self._models, request.name, request.version)
        call.model = face.model.name
        return pb.ModelConfigResponse(config=face.config())

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, call: Call
    ) -> pb.ModelInferResponse:
        """Continue a text and return it whole."""
        asked = Asked.of(request, self._models)
        if asked.face.is_decoupled:
            raise InputError(
                "model_name",
                f"is {asked.face.name}, which answers in pieces; ask it by ModelStreamInfer, or "
                f"ask {asked.face.model.name}",
            )
        answer = await self._inference.whole(call, asked.request)
        return asked.write(answer, is_final=True)

    async def ModelStreamInfer(  # noqa: N802
        self, requests: AsyncIterator[pb.ModelInferRequest], call: Call
    ) -> None:
        """Answer requests as they come."""
        await InferStream(self._models, self._inference, call, self._closing).run(requests)


def is_ready(models: Models, health: Health, name: str, version: str = "") -> bool:
    """Tell whether a model can be used, by the name under which it is asked."""
    try:
        face = find(models, name, version)
    except UnknownModelError:
        return False
    return health.serves(face.model.name)
