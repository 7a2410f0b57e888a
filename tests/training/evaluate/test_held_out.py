"""What a model is judged on, and what it may not be judged on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_checkpoint
from training.data.corpus.corpus import load_corpus
from training.evaluate.held_out import TUNING_SYMBOLS, find_held_out
from training.run.checkpoint import Checkpoint
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError, SettingsError

WORDS = ["tall", "man", "ate", "ham", "mat", "hat", "lamp", "a", "the", "on", "under", "and"]


def prose(words: int, seed: int) -> str:
    """Words in an order that no other seed has for long."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def trained_on(text: Path, **settings: Any) -> Checkpoint:
    """A checkpoint as a training on that text leaves it; its weights play no part here."""
    corpus = load_corpus(str(text))
    return replace(
        tiny_checkpoint("gru"),
        training_settings=TrainingSettings(corpus=str(text), epochs=1, **settings),
        vocabulary=Vocabulary.of(corpus.text),
        corpus_name=corpus.name,
        corpus_sha256=corpus.sha256,
    )


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    """A text of some 20,000 symbols."""
    return written(tmp_path, "novel", prose(5000, seed=1))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_by_default_it_is_what_the_training_held_out(novel: Path) -> None:
    text = novel.read_text("utf-8")
    cut = int(len(text) * 0.9)
    held_out = find_held_out(trained_on(novel))
    assert (held_out.split, held_out.symbols) == ("test", range(cut, len(text)))
    assert held_out.text == text[cut:]
    assert held_out.tuning == text[cut - cut // 10 : cut]
    tuned = find_held_out(trained_on(novel, split="tune"))
    assert (tuned.split, tuned.text) == ("tune", text[int(cut * 0.9) : cut])
    assert tuned.tuning == text[int(cut * 0.9) - int(cut * 0.9) // 10 : int(cut * 0.9)]


def test_the_settings_of_the_training_decide_where_the_parts_lie(novel: Path) -> None:
    text = novel.read_text("utf-8")
    held_out = find_held_out(trained_on(novel, max_symbols=1000, validation_fraction=0.25))
    assert (held_out.text, held_out.tuning) == (text[750:1000], text[675:750])


def test_a_long_text_s_end_is_enough_to_tune_by(tmp_path: Path) -> None:
    long = written(tmp_path, "long", prose(70_000, seed=2))
    assert len(find_held_out(trained_on(long)).tuning) == TUNING_SYMBOLS


def test_a_model_of_tune_may_be_judged_on_the_test_and_not_the_other_way(novel: Path) -> None:
    tuned, tested = trained_on(novel, split="tune"), trained_on(novel)
    assert find_held_out(tuned, split="test").text == find_held_out(tested).text
    with pytest.raises(SettingsError, match=r"split = 'tune': symbols .* leave --split out"):
        find_held_out(tested, split="tune")


def test_a_training_that_held_nothing_out_says_what_to_do(novel: Path, tmp_path: Path) -> None:
    everything = trained_on(novel, validation_fraction=0.0)
    with pytest.raises(SettingsError, match=r"train with --validation-fraction 0\.1"):
        find_held_out(everything)
    other = written(tmp_path, "other", prose(3000, seed=5))
    assert find_held_out(everything, corpus=str(other)).text


def test_a_text_that_has_moved_is_the_same_text(novel: Path, tmp_path: Path) -> None:
    checkpoint = trained_on(novel, split="tune")
    moved = novel.rename(tmp_path / "moved.txt")
    with pytest.raises(CorpusError, match="neither a file nor a known name"):
        find_held_out(checkpoint)
    found = find_held_out(checkpoint, corpus=str(moved))
    assert (found.corpus.name, found.split) == ("moved", "tune")


def test_a_text_that_has_changed_is_refused(novel: Path) -> None:
    checkpoint = trained_on(novel)
    novel.write_text(prose(5000, seed=3), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"the model was trained on .* --corpus"):
        find_held_out(checkpoint)


def test_another_text_is_split_by_default(novel: Path, tmp_path: Path) -> None:
    text = prose(3000, seed=5)
    other = written(tmp_path, "other", text)
    checkpoint = trained_on(novel, validation_fraction=0.25, max_symbols=1000, split="tune")
    held_out = find_held_out(checkpoint, corpus=str(other))
    assert (held_out.split, held_out.text) == ("test", text[int(len(text) * 0.9) :])
    assert held_out.tuning == find_held_out(checkpoint).tuning


@pytest.mark.parametrize("indent", ["", "  "])
def test_a_text_that_the_training_s_holds_is_refused(tmp_path: Path, indent: str) -> None:
    """As shakespeare holds tinyshakespeare's plays, with other line ends."""
    play = prose(3000, seed=5).replace(" on ", f" on\n{indent}")
    collection = prose(2000, seed=6) + " " + " ".join(play.split()) + prose(4000, seed=7)
    checkpoint = trained_on(written(tmp_path, "collection", collection))
    with pytest.raises(
        CorpusError, match="trained on collection, which holds 100% of the text to measure on"
    ):
        find_held_out(checkpoint, corpus=str(written(tmp_path, "play", play)))


def test_what_the_training_did_not_read_of_its_text_is_not_held_against_it(tmp_path: Path) -> None:
    play = prose(500, seed=5)
    collection = prose(10_000, seed=6) + play
    checkpoint = trained_on(written(tmp_path, "collection", collection))
    assert find_held_out(checkpoint, corpus=str(written(tmp_path, "play", play))).text


def test_an_empty_part_is_refused(novel: Path, tmp_path: Path) -> None:
    empty = written(tmp_path, "empty", "")
    with pytest.raises(CorpusError, match="the text is empty"):
        find_held_out(trained_on(novel), corpus=str(empty))
