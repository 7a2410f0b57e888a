"""A model of records is proved and judged as it is used: line by line, each from a zero state."""

import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from export.compiler import export
from export.graph.arithmetic import Precision
from export.proof.comparison import TOLERANCES
from export.proof.parity import prove
from export.proof.quality import load_texts, measure_scales
from export.proof.reference import Run, verify_run
from tests.conftest import tiny_checkpoint
from training.data.corpus.corpus import load_corpus
from training.data.prepared import prepare_data
from training.model.model import CharRNN, State
from training.run.checkpoint import Checkpoint
from training.settings import Cell

NAMES = "\n".join(["ada", "bo", "charlotte", "di", "eve", "f", "gustav"] * 60) + "\n"
HELD_OUT = 0.3


def checkpoint_of_names(cell: Cell, folder: Path) -> Checkpoint:
    """Return random weights that say of themselves that they were trained on names."""
    path = folder / "names.txt"
    path.write_text(NAMES, encoding="utf-8")
    corpus, before = load_corpus(str(path)), tiny_checkpoint(cell)
    settings = replace(
        before.training_settings, corpus=str(path), records=True, validation_fraction=HELD_OUT
    )
    vocabulary = prepare_data(corpus, settings).vocabulary
    torch.manual_seed(zlib.crc32(cell.encode()))
    model_settings = replace(before.model_settings, vocabulary_size=len(vocabulary))
    return replace(
        before,
        model_settings=model_settings,
        training_settings=settings,
        vocabulary=vocabulary,
        corpus_sha256=corpus.sha256,
        weights=CharRNN(model_settings).state_dict(),
    )


def test_loss_of_int8_is_that_of_records_read_one_by_one(tmp_path: Path) -> None:
    checkpoint = checkpoint_of_names("gru", tmp_path)
    texts = load_texts(checkpoint)
    bundle = export(checkpoint, tmp_path / "bundle", precision=Precision.INT8, texts=texts)
    rungs = {rung.name: rung for rung in bundle.manifest.parity.rungs}
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    total, symbols = 0.0, 0
    for line in vocabulary.text_of(texts.validation).splitlines(keepends=True):
        ids = torch.from_numpy(vocabulary.encode("\n" + line))
        with torch.inference_mode():
            logits, _ = model(ids[:-1, None], model.zero_state(1))
        total += float(torch.nn.functional.cross_entropy(logits[:, 0], ids[1:], reduction="sum"))
        symbols += len(line)
    read = f"{symbols} of {len(texts.validation)} symbols, {total / symbols:.4f} nats in torch"
    assert rungs["quality: validation loss"].compared.startswith(read)
    assert rungs["long: log-probabilities"].compared.endswith("records")


def test_scale_of_relu_is_of_records_read_one_by_one(tmp_path: Path) -> None:
    checkpoint = checkpoint_of_names("rnn_relu", tmp_path)
    texts, model = load_texts(checkpoint), checkpoint.model()
    largest = np.zeros(checkpoint.model_settings.layers)
    for line in set(checkpoint.vocabulary.text_of(texts.training).splitlines()):
        state = model.zero_state(1)
        for token in checkpoint.vocabulary.encode("\n" + line):
            with torch.inference_mode():
                _, state = model(torch.tensor([[token]]), state)
            largest = np.maximum(largest, state["h"].amax((1, 2)).numpy())
    found = [scale.step * 255 for scale in measure_scales(model, texts)]
    np.testing.assert_allclose(found, largest, rtol=1e-5)


class Nudged:
    """The torch model, each of whose states is a little beside the right one."""

    def __init__(self, model: CharRNN) -> None:
        self._model = model

    def __call__(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        logits, after = self._model(tokens, state)
        return logits, {name: tensor + 0.02 for name, tensor in after.items()}

    def zero_state(self, N: int) -> State:
        return self._model.zero_state(N)


def test_a_little_difference_does_not_grow_from_step_to_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint("lstm", hidden_size=64, layers=1)
    weights = checkpoint.weights["recurrent.weight_hh_l0"]
    weights *= 4  # what is a little apart now is far apart ten symbols later
    monkeypatch.setattr("export.compiler.prove", partial(prove, long=8))
    bundle, model = export(checkpoint, tmp_path / "bundle"), checkpoint.model()
    tolerance = TOLERANCES[Precision.INT8]
    report = prove(bundle, model, 1, reference=Nudged(model), tolerance=tolerance, long=8)
    apart = {rung.name: rung.difference for rung in report.rungs}
    for name in ("decode: final state", "inspect: units"):
        assert apart[name] == pytest.approx(0.02, abs=0.001)


@pytest.mark.parametrize("at", [4, 5])
def test_what_follows_the_end_of_a_record_is_not_compared(at: int) -> None:
    checkpoint = tiny_checkpoint("lstm")
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    end, T = 3, 9
    tokens = np.full((T, 2), 1)
    tokens[4] = end
    with torch.inference_mode():
        consumed = np.concatenate([np.zeros((1, 2), np.int64), tokens[:-1]])
        logits, _ = model(torch.from_numpy(consumed), model.zero_state(2))
        log_p = torch.log_softmax(logits, -1).numpy()
        log_probs = np.take_along_axis(log_p, tokens[..., None], 2)[..., 0]
        log_probs[at] -= 1
        run = Run(
            start=0,
            tokens=tokens,
            log_probs=log_probs,
            uniform=np.zeros((T, 2), np.float32),
            steps=T,
            states=[{f"{name}_0": zero.numpy() for name, zero in model.zero_state(2).items()}],
            end=end,
        )
        verdict = verify_run(model, run, 0.0, vocabulary)
    assert (verdict.drift > 0.01) == (at == 4)
    assert run.is_text.sum() == 10
    assert sum(verdict.mismatches) <= 10
