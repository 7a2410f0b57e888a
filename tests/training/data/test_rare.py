"""Rare symbols are one: in training, in the checkpoint, when a run goes on, when it is judged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import TEXT
from tests.training.test_command import call, command
from training.data.corpus.corpus import Corpus
from training.data.rare import UNKNOWN, join_rare
from training.evaluate.__main__ import main as evaluate
from training.model.sample import sample
from training.run.checkpoint import load_checkpoint
from training.settings import TrainingSettings
from unroll.errors import CorpusError

RARE = "".join(chr(0x4E00 + i) for i in range(20))  # each once
TAIL = "後"  # in what is held out alone, often


def joined(text: str, rare: int, **settings: object) -> Corpus:
    corpus = Corpus.of(name="made", text=text)
    return join_rare(corpus, TrainingSettings(epochs=1, rare_symbols=rare, **settings))  # type: ignore[arg-type]


def test_symbols_below_the_limit_become_one_and_those_at_it_stay() -> None:
    corpus = joined("aaabbc\nd\ufffd", 2, validation_fraction=0)
    assert corpus.vocabulary.symbols == "\nab" + UNKNOWN  # the start symbol stays, though rare
    assert corpus.vocabulary.unknown_symbol == UNKNOWN
    assert corpus.text == "aaabb" + UNKNOWN + "\n" + UNKNOWN * 2
    assert any("3 different ones" in note and "3 of the 9" in note for note in corpus.notes)


def test_what_is_held_out_does_not_count() -> None:
    corpus = joined("ab\n" * 60 + TAIL * 10, 3)
    assert TAIL not in corpus.vocabulary.symbols
    assert corpus.text.endswith(UNKNOWN * 10)


def test_without_rare_symbols_it_says_that_nothing_is_learnt_of_them() -> None:
    corpus = joined("ab\n" * 60, 2)
    assert any("none is so rare" in note for note in corpus.notes)
    assert corpus.vocabulary.unknown_symbol == UNKNOWN


def test_a_limit_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(CorpusError, match="smaller --rare-symbols"):
        joined("ab\n" * 60, 1000)


def test_ids_are_translated_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT + RARE
    whole = joined(text, 2)
    monkeypatch.setattr("training.data.corpus.symbols.AT_ONCE", 7)
    pieces = joined(text, 2)
    assert np.array_equal(pieces.symbols.ids, whole.symbols.ids)
    assert pieces.text == whole.text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "rare.txt").write_text(TEXT + RARE + TEXT * 2, encoding="utf-8")
    corpus = f"--corpus={tmp_path / 'rare.txt'}"
    assert call(command(tmp_path, corpus, "--rare-symbols=2", "--epochs=1", "--name=old")) == 0
    return tmp_path / "runs" / "old"


def test_a_run_knows_its_unknown_symbol_and_does_not_draw_it(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    vocabulary, model = checkpoint.vocabulary, checkpoint.model()
    assert vocabulary.unknown_symbol == vocabulary.symbols[-1] == UNKNOWN
    assert not set(RARE) & set(vocabulary.symbols)
    with torch.no_grad():
        model.decoder.bias[-1] = 100.0  # the model is sure of it
    uniforms = np.random.default_rng(1).random((50, 3))
    texts = sample(
        model, vocabulary, prompt="☃" + RARE, uniforms=uniforms, temperatures=[0.1, 1, 2]
    )
    assert UNKNOWN not in "".join(texts)
    assert [len(text) for text in texts] == [50] * 3


def test_a_run_is_resumed_with_the_same_ids(run: Path, tmp_path: Path) -> None:
    tokens = [f"--runs-dir={tmp_path / 'runs'}", "--resume", "--name=old"]
    assert call(tokens) == 0
    assert load_checkpoint(run / "last.safetensors").vocabulary == load_checkpoint(run).vocabulary


def test_a_run_goes_on_with_unknown_symbols_and_learns_those_that_are_named(
    run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("lamp", "Ωlampλ") * 2, encoding="utf-8")
    tokens = [f"--runs-dir={tmp_path / 'runs'}", f"--from={run}", "--name=new", f"--corpus={other}"]
    assert call([*tokens, "--add-symbols=λ", "--learning-rate=1e-9", "--weight-decay=0"]) == 0
    old, new = load_checkpoint(run), load_checkpoint(tmp_path / "runs" / "new")
    assert new.vocabulary.symbols == old.vocabulary.symbols[:-1] + "λ" + UNKNOWN
    assert new.vocabulary.unknown_symbol == UNKNOWN
    for name in ("embedding.weight", "decoder.weight", "decoder.bias"):
        for kept in (slice(0, -2), slice(-1, None)):
            before = old.weights[name][: -1 if kept.start == 0 else None][kept.start or None :]
            assert torch.allclose(new.weights[name][kept], before, atol=1e-5), name


def test_a_run_keeps_its_limit(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = f"--runs-dir={run.parent}"
    assert call([runs, f"--from={run}", "--name=new", "--rare-symbols=3"]) == 2
    assert "rare_symbols = 3" in capsys.readouterr().err


def test_evaluation_tells_how_many_symbols_were_unknown(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(("a☃at e!" * 300), encoding="utf-8")
    figures = tmp_path / "figures.json"
    with pytest.raises(SystemExit) as ended:
        evaluate([f"--checkpoint={run}", f"--corpus={other}", f"--json={figures}"])
    assert ended.value.code in (None, 0)
    symbols = json.loads(figures.read_text())["symbols"]
    assert symbols["unknown"] == pytest.approx(symbols["count"] / 7, abs=2)
    assert f"{symbols['unknown']} read as the unknown symbol" in capsys.readouterr().out


@pytest.mark.parametrize("apart", ["--records", "--documents"])
def test_units_apart_have_an_unknown_symbol_too(apart: str, tmp_path: Path) -> None:
    lines = [f"name{letter}{symbol}" for letter, symbol in zip("abcde" * 4, RARE, strict=True)]
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("\n".join(lines * 2) + "\n", encoding="utf-8")
    corpus = f"--corpus={tmp_path / '*.txt'}"
    tokens = command(tmp_path, corpus, apart, "--rare-symbols=9", "--epochs=1", "--name=apart")
    (tmp_path / "fable.txt").unlink()
    assert call(tokens) == 0
    vocabulary = load_checkpoint(tmp_path / "runs" / "apart").vocabulary
    assert vocabulary.unknown_symbol == UNKNOWN
    assert vocabulary.form.unit == ("record" if apart == "--records" else "text")
    assert not set(RARE) & set(vocabulary.symbols)
