"""Names are found, and spelled otherwise anew in each epoch, and nothing else is."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data import prepared
from training.data.corpus.corpus import Corpus, load_corpus
from training.data.names import STRETCH, Names
from training.data.prepared import prepare_data
from training.data.streams import Position, Streams
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary

SCENE = """ANGELO:
Good morrow, gentle Isabella; the duke has left Vienna, and Angelo rules.

ISABELLA:
The Duke? Then Angelo is kind. Perhaps. I come from Lodowick.

LODOWICK:
I saw her, perhaps, in Vienna.

"""
KNOWN = ["angelo", "isabella", "lodowick", "vienna"]


def names_of(text: str, share: float, seed: int = 0) -> tuple[Names, Vocabulary, torch.Tensor]:
    vocabulary = Vocabulary.of(text)
    names = Names(text, vocabulary, share, seed)
    return names, vocabulary, torch.from_numpy(vocabulary.encode(text))


def read(text: str, share: float, epoch: int = 0, seed: int = 0) -> str:
    names, vocabulary, ids = names_of(text, share, seed)
    return vocabulary.decode(names.respelled(ids, epoch).tolist())


def test_names_are_words_that_are_never_lower_case_and_somewhere_not_at_a_beginning() -> None:
    # 'duke', 'perhaps' are written small elsewhere; 'Good' and 'Then' only begin sentences.
    assert names_of(SCENE, 1.0)[0].known == KNOWN


def test_all_else_keeps_its_place_and_each_name_its_length_and_its_capitals() -> None:
    text = read(SCENE, 1.0)
    assert text != SCENE
    assert len(text) == len(SCENE)
    place = re.compile("|".join(KNOWN), re.IGNORECASE)
    assert place.sub(lambda m: "#" * len(m.group()), SCENE) == "".join(
        "#" if any(m.start() <= i < m.end() for m in place.finditer(SCENE)) else symbol
        for i, symbol in enumerate(text)
    )
    for match in place.finditer(SCENE):
        old, new = match.group(), text[match.start() : match.end()]
        assert (new.isupper(), new.istitle()) == (old.isupper(), old.istitle())


def test_a_name_is_spelled_alike_within_a_stretch_and_otherwise_in_another_epoch() -> None:
    seen = set()
    for epoch in range(20):
        text = read(SCENE, 1.0, epoch)
        speaker = text.split(":")[0]
        starts = [m.start() for m in re.finditer("angelo", SCENE, re.IGNORECASE)]
        assert {text[start : start + 6].upper() for start in starts} == {speaker}
        seen.add(speaker)
    assert len(seen) > 5
    several = read(SCENE * (5 * STRETCH // len(SCENE)), 1.0)
    assert (
        len({several[m.start() : m.start() + 6] for m in re.finditer(r"(?<=\n\n)\w+:", several)})
        > 5
    )


def test_the_same_seed_and_epoch_spell_alike() -> None:
    assert read(SCENE, 1.0, 3, seed=4) == read(SCENE, 1.0, 3, seed=4)
    assert read(SCENE, 1.0, 3, seed=4) != read(SCENE, 1.0, 3, seed=5)


def test_the_share_is_that_of_the_names_that_change() -> None:
    text = SCENE * 40
    starts = [m.start() for m in re.finditer("Vienna", text)]
    changed = [
        np.mean([spelled[start : start + 6] != "Vienna" for start in starts])
        for spelled in (read(text, 0.5, epoch) for epoch in range(100))
    ]
    # A new spelling may be the old one: halves of two names, in one of ten or so the same.
    assert 0.3 < np.mean(changed) < 0.55
    assert read(text, 0.0) == text


@pytest.mark.parametrize("text", ["no names here. none at all. ", "ÉÀÇ straße, no. ", "12 34 "])
def test_a_text_without_names_stays_as_it_is(text: str) -> None:
    assert read(text * 20, 1.0) == text * 20


def test_a_spelling_that_the_vocabulary_has_no_symbols_for_is_not_taken() -> None:
    # Capitals but for the first letters are not in this text.
    text = "he met Anna, then Otto; and Anna left. " * 10
    names, vocabulary, ids = names_of(text, 1.0)
    assert names.known == ["anna", "otto"]
    assert vocabulary.decode(names.respelled(ids, 0).tolist()) == text


def test_a_training_reads_respelled_text_and_validates_on_what_was_written() -> None:
    corpus = Corpus.of(name="scene", text=SCENE * 30, sha256="")
    settings = TrainingSettings(
        corpus="scene", epochs=1, streams=2, window=8, respell_names=1.0, seed=3
    )
    data = prepare_data(corpus, settings)
    vocabulary, streams = data.vocabulary, data.streams
    assert isinstance(streams, Streams)
    length = len(streams.ids)
    assert vocabulary.decode(streams.ids.tolist()) == corpus.text[:length]
    assert data.validation is not None
    assert vocabulary.decode(data.validation.tolist()) == corpus.text[length:]
    assert data.names is not None
    for epoch in (0, 1):
        batches = [
            streams.batch(Position(epoch=epoch, window=w)) for w in range(streams.windows(epoch))
        ]
        read = torch.cat([inputs for inputs, _ in batches])[:, 0]  # the first stream
        written = data.names.respelled(streams.ids, epoch).roll(-streams.offset(epoch))
        assert torch.equal(read, written[: len(read)].long())
        assert not torch.equal(read, streams.ids.roll(-streams.offset(epoch))[: len(read)].long())


PROTEINS = ">sp|P1|\nMKVLAAGIVGLC\nPQWERTYKLM\n>sp|P2|\nGGSDFHKLAA\nTREWQASDFG\n" * 30
GERMAN = "Der Hund sah die Katze, und die Katze sah den Vogel; am Abend kam Regen. " * 30


@pytest.mark.parametrize("text", [PROTEINS, GERMAN])
def test_a_text_whose_capitals_are_no_names_is_left_alone_aloud(text: str) -> None:
    settings = TrainingSettings(epochs=1, streams=2, window=8, respell_names=0.5)
    corpus = Corpus.of(name="any", text=text)
    data = prepare_data(corpus, settings)
    assert data.names is None
    assert "respell_names: switched off" in data.notes[0]
    before = prepare_data(corpus, replace(settings, repair=None))
    assert before.names is not None  # a run of 0.1 goes on as it began


def test_plays_and_prose_suit() -> None:
    assert names_of(SCENE * 20, 0.5)[0].misfit is None
    assert names_of(load_corpus("casebook").text, 0.5)[0].misfit is None


def test_long_texts_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSettings(epochs=1, streams=2, window=8, respell_names=0.5)
    corpus = Corpus.of(name="scene", text=SCENE * 20)
    assert prepare_data(corpus, settings).names is not None
    monkeypatch.setattr(prepared, "SYMBOLS_AT_MOST", 17 * len(SCENE))
    data = prepare_data(corpus, settings)
    assert data.names is None
    assert "switched off" in data.notes[0]
