"""Whole texts, by a worker or inline."""

import asyncio

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.served import ServedModel
from serving.runtime.decoder import Decoder
from serving.runtime.kernels import Kernels
from serving.texts.origins import Origin
from serving.texts.text import whole
from tests.serving.engine.harness import PATIENCE, alone, request
from unroll.bundle.folder import Bundle


def test_a_short_text_needs_no_worker(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=4))  # whose workers never start
    model = ServedModel(
        name="m", bundle=bundle, engine=engine, provider="", kernels=Kernels.ONNX, inspector=None
    )
    one = request(bundle.vocabulary, "", 1, chunk_seconds=float("inf"))

    async def ask() -> str:
        async with asyncio.timeout(PATIENCE):
            return (await whole(Origin(model=model, caller=""), one)).text

    assert asyncio.run(ask()) == alone(decoder, bundle.vocabulary, one).text
