"""A bundle of several networks says what torch says, in every precision and on every device."""

from dataclasses import replace
from pathlib import Path

import pytest

from export.graph.arithmetic import Precision
from export.graph.weights import ModelWeights
from serving.runtime.onnx import Device
from tests.conftest import export_briefly, tiny_checkpoint
from tests.export.lower import least, own_texts
from training.model.model import CELLS, CharRNN
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.errors import ParityError

pytestmark = pytest.mark.slow

# Each cell's weights are put together in fp32. Elsewhere cells differ in how many state tensors
# there are and in whether a scale of int8 is measured.
PLACES = [
    *((cell, Precision.FP32, Device.CPU) for cell in CELLS),
    *((cell, Precision.FP32, Device.CUDA) for cell in ("gru", "lstm")),
    *((cell, Precision.FP16, Device.CUDA) for cell in ("rnn_tanh", "lstm")),
    *((cell, Precision.INT8, Device.CPU) for cell in ("rnn_relu", "lstm")),
]


@pytest.mark.parametrize(("cell", "precision", "device"), PLACES)
def test_every_rung_holds(cell: Cell, precision: Precision, device: Device, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(cell, layers=2, members=3)
    texts = None if precision is Precision.FP32 else own_texts(checkpoint)
    export_briefly(checkpoint, tmp_path / "bundle", device=device, precision=precision, texts=texts)
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert (manifest.model.members, manifest.model.layers) == (3, 2)
    assert [tensor.shape for tensor in manifest.state] == [[6, "batch", 7]] * len(manifest.state)
    names = [rung.name for rung in manifest.parity.rungs]
    assert ("unrolled: plain" in names) == (device is Device.CUDA)
    for rung in manifest.parity.rungs:
        assert least(rung) <= rung.difference <= rung.limit, rung


@pytest.mark.parametrize("damage", ["sum instead of mean", "decoders exchanged", "one left out"])
def test_networks_that_are_put_together_wrongly_are_seen(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = ModelWeights.of.__func__  # type: ignore[attr-defined]

    def wrong(cls: type[ModelWeights], model: CharRNN, sampled_size: int) -> ModelWeights:
        weights: ModelWeights = of(cls, model, sampled_size)
        first, second = weights.networks
        if damage == "sum instead of mean":
            both = [replace(each, decoder=2 * each.decoder) for each in weights.networks]
        elif damage == "decoders exchanged":
            both = [
                replace(first, decoder=second.decoder), replace(second, decoder=first.decoder)
            ]  # fmt: skip
        else:
            both = [first, replace(second, decoder=0 * second.decoder)]
        return replace(weights, networks=both)

    monkeypatch.setattr(ModelWeights, "of", classmethod(wrong))
    with pytest.raises(ParityError, match=r"step: logits.*decode: log-probabilities"):
        export_briefly(tiny_checkpoint("gru", layers=1, members=2), tmp_path / "bundle")
