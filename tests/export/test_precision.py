"""Precisions below fp32: right in themselves, no worse than allowed, as reproducible as fp32."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export.graph.arithmetic import Precision, Scale
from serving.runtime.onnx import Device
from tests.conftest import export_briefly, tiny_checkpoint
from tests.export.lower import Make, V, casebook_checkpoint, compiled, least
from training.data.corpus.corpus import load_corpus
from training.model.model import CELLS, CharRNN
from training.run.checkpoint import Checkpoint, save_checkpoint
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import ParityError, SettingsError

pytestmark = pytest.mark.slow


REDUCED = [(Precision.INT8, Device.CPU), (Precision.FP16, Device.CUDA)]


@pytest.mark.parametrize(("precision", "device"), REDUCED)
@pytest.mark.parametrize("cell", CELLS)
def test_every_rung_holds_and_the_loss_is_judged(
    cell: Cell, precision: Precision, device: Device, make: Make
) -> None:
    bundle = make(cell, precision, device, 7)
    assert bundle.manifest.model.precision == precision.value
    rungs = {rung.name: rung for rung in load_bundle(bundle.folder).manifest.parity.rungs}
    assert rungs["quality: validation loss"].limit == 0.005
    assert rungs["decode: chunks of 4"].limit == 0
    if precision is Precision.INT8:
        assert rungs["decode: row alone"].limit == 0
    quality = rungs.pop("quality: validation loss")
    assert 0 < abs(quality.difference) <= quality.limit, "a lower precision changes the loss"
    for rung in rungs.values():
        assert least(rung) <= rung.difference <= rung.limit, rung


def test_precision_that_costs_too_much_is_refused_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(*_: object) -> list[Scale]:
        return [Scale(step=1 / 2, zero_point=128)] * 3

    monkeypatch.setattr("export.compiler.measure_scales", coarse)
    with pytest.raises(ParityError, match=r"quality: validation loss: 0\.\d+, limit 0\.005"):
        compiled("lstm", tmp_path / "bundle", Precision.INT8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("precision", "device", "advice"),
    [
        (Precision.INT8, Device.CUDA, "take fp16 or fp32 for cuda"),
        (Precision.FP16, Device.CPU, "take int8 or fp32, or --device cuda"),
    ],
)
def test_precision_that_a_device_does_not_compute_is_refused(
    precision: Precision, device: Device, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=advice):
        compiled("gru", tmp_path / "bundle", precision, device)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("precision", "device"), REDUCED)
def test_precision_without_texts_is_refused(
    precision: Precision, device: Device, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="give texts"):
        export_briefly(
            tiny_checkpoint("gru"), tmp_path / "bundle", device=device, precision=precision
        )
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_tells_precisions_weights_and_vocabularies_apart_and_nothing_else(
    tmp_path: Path, make: Make
) -> None:
    checkpoint = tiny_checkpoint("gru")
    other_weights = replace(
        checkpoint, weights=checkpoint.weights | {"decoder.bias": torch.ones(V)}
    )
    other_symbols = replace(
        checkpoint, vocabulary=type(checkpoint.vocabulary)("\n abcdefgh$", "\n")
    )
    other_history = replace(
        checkpoint,
        corpus_name="elsewhere",
        metrics=replace(checkpoint.metrics, update=99, validation_loss=1.0),
    )

    def fingerprint(name: str, of: Checkpoint, **options: object) -> str:
        return export_briefly(of, tmp_path / name, **options).manifest.fingerprint

    plain = fingerprint("plain", checkpoint)
    same = {
        fingerprint("again", checkpoint),
        fingerprint("history", other_history),
        fingerprint("cuda", checkpoint, device=Device.CUDA),
    }
    assert same == {plain}
    others = [
        make("gru", Precision.INT8, Device.CPU, 7).manifest.fingerprint,
        make("gru", Precision.FP16, Device.CUDA, 7).manifest.fingerprint,
        fingerprint("weights", other_weights),
        fingerprint("symbols", other_symbols),
    ]
    assert len({plain, *others}) == 5


def test_command_line_exports_in_int8(tmp_path: Path) -> None:
    corpus = load_corpus("casebook")
    checkpoint = casebook_checkpoint()
    vocabulary = Vocabulary.of(corpus.text)
    settings = replace(checkpoint.model_settings, vocabulary_size=len(vocabulary))
    checkpoint = replace(
        checkpoint,
        vocabulary=vocabulary,
        model_settings=settings,
        weights=CharRNN(settings).state_dict(),
    )
    save_checkpoint(checkpoint, tmp_path / "best.safetensors")
    command = [sys.executable, "-X", "importtime", "-m", "unroll", "export"]
    command += ["--checkpoint", str(tmp_path / "best.safetensors")]
    command += ["--bundle", str(tmp_path / "bundle"), "--precision", "int8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.nn" in done.stderr
    assert "torch._dynamo" not in done.stderr, "torch's compiler takes a second, unused"
    assert "warning: hardly trained: " in done.stdout
    assert "quality: validation loss" in done.stdout
    assert load_bundle(tmp_path / "bundle").manifest.model.precision == "int8"
