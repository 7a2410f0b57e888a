"""A new run goes on with an old one's weights."""

import re
from pathlib import Path

import pytest
import torch

from tests.training.conftest import TEXT
from tests.training.test_command import call, command
from training.log.metrics import read_metrics
from training.run.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("old")
    assert call(command(folder, "--epochs=8", "--name=old")) == 0
    return folder / "runs" / "old"


def updates(run: Path) -> list[dict[str, float]]:
    return [record for record in read_metrics(run / "metrics.jsonl") if record["event"] == "update"]


def test_it_starts_where_the_old_one_ended_and_with_its_settings(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    tokens = [f"--runs-dir={tmp_path / 'runs'}", f"--from={old}", "--name=new"]
    assert call([*tokens, "--epochs=2", "--learning-rate=0.0001"]) == 0
    said = capsys.readouterr().out
    best, new = load_checkpoint(old), load_checkpoint(tmp_path / "runs" / "new")
    settings = new.training_settings
    assert (settings.hidden_size, settings.epochs, settings.learning_rate) == (5, 2, 0.0001)
    assert settings.corpus == best.training_settings.corpus
    assert f"untrained: validation loss {best.metrics.validation_loss:.4f}" in said
    assert new.metrics.validation_loss == pytest.approx(best.metrics.validation_loss, abs=0.1)
    assert len(updates(tmp_path / "runs" / "new")) < len(updates(old))


def test_another_text_keeps_the_ids_and_named_symbols_come_behind(
    old: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("lamp", "Ωlampλ") * 2, encoding="utf-8")
    tokens = [f"--runs-dir={tmp_path / 'runs'}", f"--from={old}", "--name=new", f"--corpus={other}"]
    assert call([*tokens, "--epochs=2", "--add-symbols=λΩa"]) == 0
    best, new = load_checkpoint(old), load_checkpoint(tmp_path / "runs" / "new")
    assert new.vocabulary.symbols == best.vocabulary.symbols + "λΩ"
    assert new.vocabulary.start_symbol == best.vocabulary.start_symbol
    assert new.weights["embedding.weight"].shape[0] == len(new.vocabulary)
    assert not torch.equal(new.weights["decoder.bias"][-2:], torch.zeros(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus=OTHER"], r"2 of its symbols .* 'Ωλ'; .*--add-symbols"),
        (["--hidden-size=9"], r"hidden_size = 9: .* has 5"),
    ],
)
def test_what_the_model_cannot_take_is_refused(
    old: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("lamp", "Ωλ") * 2, encoding="utf-8")
    told = [each.replace("OTHER", str(other)) for each in arguments]
    tokens = [f"--runs-dir={tmp_path / 'runs'}", f"--from={old}", "--name=new", *told]
    assert call(tokens) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / "runs" / "new").exists()


def test_a_run_that_went_on_is_resumed_from_its_own_checkpoint(old: Path, tmp_path: Path) -> None:
    tokens = [f"--runs-dir={tmp_path / 'runs'}", "--name=new"]
    assert call([*tokens, f"--from={old}", "--epochs=3"]) == 0
    last = (tmp_path / "runs" / "new" / "last.safetensors").read_bytes()
    assert call([*tokens, "--resume"]) == 0
    weights = load_checkpoint(tmp_path / "runs" / "new" / "last.safetensors").weights
    (tmp_path / "before.safetensors").write_bytes(last)
    for name, weight in load_checkpoint(tmp_path / "before.safetensors").weights.items():
        assert torch.equal(weight, weights[name])


def test_symbols_are_added_to_an_old_run_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command(tmp_path, "--epochs=1", "--add-symbols=x")) == 2
    assert "--from" in capsys.readouterr().err
