"""Whose text is this: fair texts, and planted authors told apart."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from report.authors.authors import PASSAGES, Writings, fair, judge, passages, plain
from report.authors.library import MANUAL, others
from tests.report.models import a_model, set_weights
from training.data.corpus.corpus import Corpus, load_corpus
from training.model.model import CharRNN
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError

VOCABULARY = Vocabulary(" abc", " ")


def chooser(symbol: str, odds: float) -> CharRNN:
    """Make a model that gives one symbol so many times the probability of each other one."""
    model = a_model("gru", symbols=4)
    set_weights(model, "decoder", 0.0)
    with torch.no_grad():
        model.decoder.bias[VOCABULARY.symbols.index(symbol)] = float(np.log(odds))
    return model


def text_of(symbol: str, share: float, seed: int) -> str:
    rng = random.Random(seed)
    return "".join(symbol if rng.random() < share else rng.choice("abc") for _ in range(30_000))


def test_plain_text_has_no_layout_no_capitals_no_accents_and_plain_marks() -> None:
    assert plain("ROMEO:\n  “Café” —\tit’s") == 'romeo: "cafe" - it\'s'


def test_fair_texts_are_equally_long_and_of_the_symbols_that_all_are_trained_on() -> None:
    rng = random.Random(3)
    texts = {
        "long": "".join(rng.choice("abcde ") for _ in range(40_000)) + "z",
        "short": "".join(rng.choice("abcdf ") for _ in range(20_000)) + "z",
        "other": "q" + "".join(rng.choice("abcd ") for _ in range(30_000)) + "z",
    }
    writings = fair(texts)
    assert [each.author for each in writings] == ["long", "short", "other"]
    assert len({len(each.training) for each in writings}) == 1
    assert len({len(each.tail) for each in writings}) == 1
    # z is in all three, but in the end that none is trained on.
    assert [set(each.training) for each in writings] == [set("abcd ")] * 3
    assert [set(each.tail) for each in writings] == [set("abcd ")] * 3
    assert writings[1].training + writings[1].tail in plain(texts["short"]).replace("f", "")


def test_what_is_asked_about_is_not_what_was_trained_on() -> None:
    numbers = " ".join(str(i) for i in range(5_000))
    for each in fair({"a": numbers + " " + numbers[:100], "b": numbers}):
        assert each.tail[:60] not in each.training


def test_text_that_is_too_short_is_refused_by_name() -> None:
    with pytest.raises(CorpusError, match=r"corpus tiny: .* take a longer text"):
        fair({"tiny": "abc " * 50, "long": "abc " * 50_000})


def test_passages_are_spread_over_the_text() -> None:
    cut = passages("".join(map(chr, range(1000, 2000))), 300)
    assert len(cut) == PASSAGES
    assert {len(passage) for passage in cut} == {300}
    assert (cut[0][0], cut[-1][-1]) == (chr(1000), chr(1999))


def test_planted_authors_are_told_apart_the_better_the_longer_the_passage() -> None:
    writings = [
        Writings(author=symbol, training="", tail=text_of(symbol, 0.3, seed))
        for seed, symbol in enumerate("ab")
    ]
    verdicts = judge(writings, [(chooser(symbol, 2.0), VOCABULARY) for symbol in "ab"])
    assert verdicts.authors == ["a", "b"]
    assert verdicts.counts.sum(axis=2).tolist() == [[PASSAGES, PASSAGES]] * len(verdicts.lengths)
    assert 0.5 < verdicts.accuracy[0] < verdicts.accuracy[-1]
    assert verdicts.accuracy[-1] > 0.99
    # The likelier symbol decides: of the first five, more a than b is a.
    named_a = sum(
        passage.count("a") >= passage.count("b") for passage in passages(writings[0].tail, 400)
    )
    assert verdicts.counts[-1, 0, 0] == named_a


def test_authors_swapped_are_all_named_wrongly() -> None:
    writings = [
        Writings(author=symbol, training="", tail=text_of(symbol, 0.5, 9)) for symbol in "ab"
    ]
    verdicts = judge(writings, [(chooser(symbol, 2.0), VOCABULARY) for symbol in "ba"])
    assert verdicts.accuracy[-1] < 0.01


def test_error_is_larger_where_passages_overlap() -> None:
    tails = {length: text_of("a", 0.5, 1)[:length] for length in (800, 30_000)}
    errors = {}
    for length, tail in tails.items():
        writings = [Writings(author=a, training="", tail=tail) for a in "ab"]
        readers = [(chooser(symbol, 2.0), VOCABULARY) for symbol in "ab"]
        errors[length] = judge(writings, readers).error[-1]
    # Half are named rightly; of 400 symbols, 800 hold two passages, 30,000 hold 75.
    assert errors[800] == pytest.approx(0.5 / np.sqrt(4))
    assert errors[30_000] == pytest.approx(0.5 / np.sqrt(150))


def test_bundled_corpus_alone_is_told_from_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CORPUS_DIR", raising=False)
    monkeypatch.setattr("report.authors.library.user_cache_path", lambda _: Path("/nowhere"))
    found = others(load_corpus("casebook"))
    assert [*found] == [MANUAL]
    assert len(found[MANUAL]) > 100_000
    other = Corpus.of(name="mine", text="abc", sha256="0" * 64)
    assert [*others(other)] == ["casebook"]
