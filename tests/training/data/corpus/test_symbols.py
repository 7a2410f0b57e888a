"""Token ids of texts: the fewest bytes, pieces, and files that keep them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from training.data.corpus import cache as module
from training.data.corpus import corpus, files
from training.data.corpus.corpus import Corpus, load_corpus
from training.data.corpus.symbols import encode, smallest_type
from training.data.decoding.decode import Rules
from unroll.bundle.vocabulary import Vocabulary

TEXT = "\ufeffEine Zeile, länger\r\nund noch eine: 日本語 😀\r\n" * 200
READ = TEXT.replace("\r\n", "\n").removeprefix("\ufeff")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text that is long enough to be kept and is read in small pieces."""
    monkeypatch.setattr(corpus, "WORTH_KEEPING", 1000)
    monkeypatch.setattr(files, "CHUNK", 97)
    path = tmp_path / "long.txt"
    path.write_bytes(TEXT.encode())
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "symbols").iterdir())


@pytest.mark.parametrize(
    ("size", "dtype"), [(1, "u1"), (256, "u1"), (257, "i2"), (2**15, "i2"), (2**15 + 1, "i4")]
)
def test_ids_take_the_fewest_bytes(size: int, dtype: str) -> None:
    assert smallest_type(size) == np.dtype(dtype)


def test_ids_are_those_of_the_vocabulary() -> None:
    data = TEXT.encode()
    chunks = [data[n : n + 7] for n in range(0, len(data), 7)]
    symbols = encode([("any", lambda: chunks)], Rules(), "any").symbols()
    length = len(symbols.ids)
    vocabulary = Vocabulary.of(READ[:length])
    assert symbols.vocabulary.symbols == vocabulary.symbols
    assert symbols.ids.tolist() == vocabulary.encode(READ[:length]).tolist()
    assert symbols.part(range(30, 50)) == READ[30:50]


def test_a_kept_text_is_the_same_and_is_not_decoded_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_corpus(str(file), cache=tmp_path / "cache")
    assert first.text == READ
    assert "are kept in" in first.notes[-1]
    assert [path.suffix for path in kept(tmp_path)] == [".ids", ".json"]
    monkeypatch.setattr(corpus, "encode", None)
    again = load_corpus(str(file), cache=tmp_path / "cache")
    assert (again.text, again.vocabulary) == (first.text, first.vocabulary)
    assert again.notes == first.notes[:-1]
    assert again.symbols.ids.dtype == np.uint8
    assert isinstance(again.symbols.ids, np.memmap)


def test_another_text_or_rule_has_another_file(file: Path, tmp_path: Path) -> None:
    load_corpus(str(file), cache=tmp_path / "cache")
    other = load_corpus(str(file), Rules(keep_line_ends=True), cache=tmp_path / "cache")
    assert other.text == TEXT.removeprefix("\ufeff")
    file.write_bytes(TEXT.encode()[3:])
    assert "are kept in" in load_corpus(str(file), cache=tmp_path / "cache").notes[-1]
    assert len(kept(tmp_path)) == 6


def test_a_file_that_was_cut_off_is_made_anew(file: Path, tmp_path: Path) -> None:
    first = load_corpus(str(file), cache=tmp_path / "cache")
    ids = kept(tmp_path)[0]
    ids.write_bytes(ids.read_bytes()[:-1])
    assert load_corpus(str(file), cache=tmp_path / "cache").text == first.text
    kept(tmp_path)[1].write_text("{")
    assert load_corpus(str(file), cache=tmp_path / "cache").text == first.text


def test_a_training_leaves_what_is_kept_as_it_is(file: Path, tmp_path: Path) -> None:
    load_corpus(str(file), cache=tmp_path / "cache")
    before = hashlib.sha256(kept(tmp_path)[0].read_bytes()).hexdigest()
    again = load_corpus(str(file), cache=tmp_path / "cache")
    again.symbols.ids[:] = 0  # as a careless reader would
    assert hashlib.sha256(kept(tmp_path)[0].read_bytes()).hexdigest() == before


def test_a_cache_that_cannot_be_written_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    read = load_corpus(str(file), cache=tmp_path / "cache")
    assert read.text == READ
    assert "cannot be kept" in read.notes[-1]


def test_short_texts_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("short", "utf-8")
    assert load_corpus(str(tmp_path / "short.txt"), cache=tmp_path / "cache").text == "short"
    assert not (tmp_path / "cache").exists()
    assert module.WORTH_KEEPING == 2**24


def test_a_corpus_of_a_text_is_that_text() -> None:
    made = Corpus.of(name="any", text="one\r\ncafÃ©")
    assert (made.text, len(made)) == ("one\r\ncafÃ©", 10)
