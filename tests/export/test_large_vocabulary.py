"""A vocabulary so large that a symbol is drawn by block and no filter sorts: the ladder holds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.drawing.sampler import WHOLE_AT_MOST
from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.onnx import Device
from serving.runtime.sampling import uniforms
from tests.conftest import export_briefly, tiny_checkpoint
from training.model.model import CharRNN
from training.run.checkpoint import Checkpoint
from unroll.bundle.vocabulary import Vocabulary

V = WHOLE_AT_MOST + 89
SYMBOLS = "\n" + "".join(chr(0x4E00 + i) for i in range(V - 1))


def large_checkpoint() -> Checkpoint:
    tiny = tiny_checkpoint("gru", layers=1)
    settings = replace(tiny.model_settings, vocabulary_size=V)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = CharRNN(settings)
        with torch.no_grad():
            model.decoder.weight.mul_(5)
    vocabulary = Vocabulary(SYMBOLS, "\n", unknown_symbol=SYMBOLS[-1])
    return replace(tiny, model_settings=settings, vocabulary=vocabulary, weights=model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_the_ladder_holds_and_the_unknown_symbol_is_not_drawn(
    precision: Precision, tmp_path: Path
) -> None:
    ids = np.random.default_rng(1).integers(0, V, 3000)
    texts = Texts(training=ids, validation=ids[:1000]) if precision is Precision.INT8 else None
    bundle = export_briefly(
        large_checkpoint(), tmp_path / "large", precision=precision, texts=texts
    )
    decoder, T, N = Decoder(bundle, Device.CPU), 40, 6
    run = LoopRun.plain(
        np.zeros(N, np.int64),
        np.full((T, N), FREE),
        np.stack([uniforms(row, 0, T) for row in range(N)], axis=1),
        temperature=[0, 0.1, 0.5, 1, 2, 100],
    )
    run = replace(
        run, top_k=np.array([0, 5, 0, 0, 600, 0]), min_p=np.array([0, 0, 0.1, 0, 0, 0], np.float32)
    )
    assert decoder.run(run, decoder.zero_state(N)).tokens.max() < V - 1
