"""One seed gives one text, by whichever door it is asked for."""

from pathlib import Path
from typing import Any

import grpc

from tests.serving.http.asking import ask, call
from tests.serving.running import serve
from tests.serving.triton import asking as triton
from training.settings import Cell
from unroll import load
from unroll.options import GenerateOptions

COMMON: dict[str, Any] = {"max_tokens": 50, "seed": 9, "temperature": 0.8, "top_p": 0.9}
OPTIONS = GenerateOptions(max_new_symbols=50, seed=9, temperature=0.8, top_p=0.9)


def test_one_seed_gives_one_text_through_every_door(tiny_bundles: dict[Cell, Path]) -> None:
    bundle = tiny_bundles["gru"]
    with (
        serve(f"small={bundle}", http_port=0) as running,
        running.client() as client,
        grpc.insecure_channel(running.address) as channel,
        load(bundle) as local,
    ):
        connect = {
            "prompt": "cab",
            "maxNewSymbols": 50,
            "seed": "9",
            "sampling": {"temperature": 0.8, "topP": 0.9},
        }
        completion = {"model": "small", "prompt": "cab", **COMMON}
        generate = {"text_input": "cab", "exclude_input_in_output": True, **COMMON}
        inferred = triton.call(
            channel, "ModelInfer", triton.infer_request("small", "cab", **COMMON)
        )
        texts = {
            "unroll.v1": client.generate("cab", OPTIONS).text,
            "Connect": call(running, "Generate", connect).json["text"],
            "OpenAI": ask(running, "POST", "/v1/completions", completion).json["choices"][0][
                "text"
            ],
            "Triton": triton.outputs_of(inferred)["text_output"],
            "generate": ask(running, "POST", "/v2/models/small/generate", generate).json[
                "text_output"
            ],
            "local": local.generate("cab", OPTIONS).text,
        }
    assert len(texts["unroll.v1"]) == 50
    assert texts == dict.fromkeys(texts, texts["unroll.v1"])
