"""The loss that a precision costs is measured on the training's own held-out text."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.proof import quality
from export.proof.quality import Texts, load_texts
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from tests.conftest import export_briefly, tiny_checkpoint
from tests.export.lower import V, casebook_checkpoint
from training.data.corpus.corpus import load_corpus
from unroll.bundle.manifest import Rung
from unroll.errors import SettingsError

pytestmark = pytest.mark.slow


def test_texts_are_the_training_s_own_split() -> None:
    texts = load_texts(casebook_checkpoint(validation_fraction=0.25))
    corpus = load_corpus("casebook")
    kept = int(len(corpus.text) * 0.25)
    assert len(texts.validation) == kept
    assert len(texts.training) == len(corpus.text) - kept


def test_another_text_than_the_training_s_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("another text\n" * 99, encoding="utf-8")
    with pytest.raises(SettingsError, match="name that text with --corpus"):
        load_texts(casebook_checkpoint(), str(other))


def test_training_without_validation_cannot_be_judged() -> None:
    with pytest.raises(SettingsError, match="--validation-fraction above 0"):
        load_texts(casebook_checkpoint(validation_fraction=0.0))


def test_loss_is_that_of_torch_reading_the_same_streams(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("lstm")
    ids = np.random.default_rng(1).integers(0, V, 64 * 301 + 17)
    bundle = export_briefly(checkpoint, tmp_path / "bundle")
    texts = Texts(training=ids, validation=ids)
    rung = quality.judge(Decoder(bundle, Device.CPU), checkpoint.model(), texts)
    rows = torch.from_numpy(ids[: 64 * 301].reshape(64, 301).T.copy())
    with torch.inference_mode():
        logits, _ = checkpoint.model()(rows[:-1], checkpoint.model().zero_state(64))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[1:].flatten())
    read = f"{64 * 300} of {len(ids)} symbols"
    assert f"{read}, {loss:.4f} nats in torch, {loss:.4f} here" == rung.compared
    assert rung.difference < 1e-5


def test_a_long_text_is_judged_on_the_beginnings_of_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint("gru")
    bundle = export_briefly(checkpoint, tmp_path / "bundle")
    ids = np.random.default_rng(1).integers(0, V, (64, 301))
    monkeypatch.setattr(quality, "JUDGED_AT_MOST", 64 * 40)
    monkeypatch.setattr(quality, "JUDGED_AT_LEAST", 64 * 20)
    decoder, model = Decoder(bundle, Device.CPU), checkpoint.model()

    def judge(validation: np.ndarray) -> Rung:
        return quality.judge(decoder, model, Texts(training=validation, validation=validation))

    rung = judge(ids.flatten())
    assert rung.compared.startswith(f"{64 * 40} of {ids.size} symbols")
    alone = judge(ids[:, :41].flatten())
    assert rung.compared.partition(", ")[2] == alone.compared.partition(", ")[2]
    monkeypatch.setattr(quality, "LOGITS_AT_MOST", 64 * V * 30)
    assert judge(ids.flatten()).compared.startswith(f"{64 * 30} of")
