"""Checkpoints: complete, checked, whole."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.training.conftest import Room, tiny_corpus, tiny_settings
from training.run import checkpoint as module
from training.run.checkpoint import load_checkpoint, save_checkpoint
from unroll.errors import CheckpointError

Tensors = dict[str, torch.Tensor]
Damage = Callable[[dict[str, Any], Tensors], object]


@pytest.fixture
def run(room: Room) -> Path:
    room.trainer("run", tiny_settings(cell="lstm", epochs=1, minutes=0)).run()
    return room.path / "run"


def test_a_checkpoint_holds_all_that_is_needed(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert checkpoint.training_settings.window == 11
    assert checkpoint.model_settings.cell == "lstm"
    assert checkpoint.corpus_sha256 == tiny_corpus().sha256
    assert checkpoint.vocabulary.symbols == "".join(sorted(set(tiny_corpus().text)))
    model = checkpoint.model()
    assert not model.training
    logits, _ = model(torch.zeros((2, 3), dtype=torch.int64), model.zero_state(3))
    assert logits.shape == (2, 3, len(checkpoint.vocabulary))


def test_saved_again_it_is_the_same(run: Path, tmp_path: Path) -> None:
    for name in ("best", "last"):
        once = load_checkpoint(run / f"{name}.safetensors")
        save_checkpoint(once, tmp_path / "again.safetensors")
        twice = load_checkpoint(tmp_path / "again.safetensors")
        assert module._description(once) == module._description(twice)
        assert all(torch.equal(once.weights[n], twice.weights[n]) for n in once.weights)
        assert (once.state is None) == (name == "best")


def test_an_interrupted_write_leaves_the_old_file(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(run)
    before = (run / "best.safetensors").read_bytes()

    def cut_short(tensors: Tensors, path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", cut_short)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(checkpoint, run / "best.safetensors")
    assert (run / "best.safetensors").read_bytes() == before
    assert not list(run.glob(".*"))


def rewrite(path: Path, damage: Damage) -> None:
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["unroll"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    damage(description, tensors)
    save_file(tensors, path, {"unroll": json.dumps(description)})


DAMAGES: dict[str, Damage] = {
    "format version 2": lambda d, t: d.update(format_version=2),
    "format version None": lambda d, t: d.pop("format_version"),
    "'model' is missing": lambda d, t: d.pop("model"),
    "cell = 'elman'|cell": lambda d, t: d["model"].update(cell="elman"),
    "no attribute|not a mapping": lambda d, t: d.update(model="gru"),
    "overflow": lambda d, t: d["model"].update(hidden_size=10**9),
    "layers = 1000000, but": lambda d, t: d["model"].update(layers=10**6),
    "colour": lambda d, t: d["training"].update(colour="red"),
    "vocabulary of 1 symbols": lambda d, t: d.update(
        vocabulary={"symbols": "a", "start_symbol": "a"}
    ),
    "must occur once": lambda d, t: d["vocabulary"].update(symbols="aa"),
    r"missing: \['decoder.bias'\]": lambda d, t: t.pop("decoder.bias"),
    r"unknown: \['extra'\]": lambda d, t: t.update(extra=torch.zeros(1)),
    r"decoder.bias has shape \(2,\)": lambda d, t: t.update({"decoder.bias": torch.zeros(2)}),
    "decoder.bias is torch.float64": lambda d, t: t.update(
        {"decoder.bias": t["decoder.bias"].double()}
    ),
    "not finite": lambda d, t: t["decoder.bias"].fill_(torch.nan),
    "moments missing": lambda d, t: t.pop("training.moments.decoder.bias.exp_avg"),
    "recurrent state": lambda d, t: t.pop("training.recurrent.c"),
    "random": lambda d, t: t.pop("training.random.cpu"),
    "'update'|update": lambda d, t: d["progress"].update(update="many"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_each_way_to_be_wrong_has_its_error(run: Path, message: str) -> None:
    path = run / "last.safetensors"
    rewrite(path, DAMAGES[message])
    with pytest.raises(CheckpointError, match=message) as raised:
        load_checkpoint(path)
    assert "last.safetensors" in str(raised.value)


def test_damaged_foreign_and_missing_files_are_refused(run: Path) -> None:
    best = run / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(run)
    save_file({"x": torch.zeros(1)}, best)
    with pytest.raises(CheckpointError, match="another program's"):
        load_checkpoint(run)
    save_file({"x": torch.zeros(1)}, best, {"unroll": "{"})
    with pytest.raises(CheckpointError, match="not JSON"):
        load_checkpoint(run)
    best.unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(run)


def test_a_run_without_a_best_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    def told() -> str:
        with pytest.raises(CheckpointError) as raised:
            load_checkpoint(tmp_path)
        return str(raised.value)

    assert told().endswith("no such checkpoint; train one with `unroll train`")
    (tmp_path / "metrics.jsonl").touch()
    assert told().endswith("the run ended before anything was saved: train again")
    (tmp_path / "last.safetensors").touch()
    assert told().endswith("stopped before its first validation: continue it with --resume")


def test_a_checkpoint_that_was_hardly_trained_says_so(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    uniform = math.log(len(checkpoint.vocabulary))

    def doubt(update: int, loss: float) -> str | None:
        metrics = replace(checkpoint.metrics, update=update, validation_loss=loss)
        return replace(checkpoint, metrics=metrics).doubt

    assert doubt(100, uniform - 0.1) is None
    assert "99 updates" in (doubt(99, uniform - 0.1) or "")
    assert f"a uniform guess costs {uniform:.2f}" in (doubt(5000, uniform) or "")
