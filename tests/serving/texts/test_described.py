"""What is told of a served model."""

import pytest

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.served import ServedModel
from serving.runtime.decoder import Decoder
from serving.runtime.kernels import Kernels
from serving.runtime.onnx import runtime_name
from serving.texts.results import model_info
from unroll.bundle.folder import Bundle


@pytest.mark.parametrize(
    ("kernels", "told"), [(Kernels.ONNX, ""), (Kernels.NATIVE, ", native kernels")]
)
def test_native_kernels_are_told_beside_the_runtime(
    bundle: Bundle, decoder: Decoder, kernels: Kernels, told: str
) -> None:
    engine = Engine(bundle, decoder, EngineOptions())
    model = ServedModel(
        name="m", bundle=bundle, engine=engine, provider="", kernels=kernels, inspector=None
    )
    assert model_info(model).runtime == runtime_name() + told
