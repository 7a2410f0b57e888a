"""A corpus is found by its name, its files or a pattern, and read whole."""

import codecs
import gzip
from pathlib import Path

import pytest
import zstandard

from tests.training.conftest import tiny_corpus, tiny_settings
from tests.training.data.corpus.test_download import BODY, SHA256
from training.data.corpus.corpus import from_anywhere, load_corpus
from training.data.decoding.decode import Rules
from training.data.prepared import prepare_data
from unroll.errors import CorpusError


def test_the_bundled_corpus_needs_no_network(tmp_path: Path) -> None:
    corpus = load_corpus("casebook", corpus_dir=tmp_path, cache=tmp_path)
    assert len(corpus.text) >= 120_000
    assert corpus.notes == ()
    assert set("£é—") <= set(corpus.text)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(CorpusError, match=r"did you mean 'sherlock'\?.*casebook, shakespeare"):
        load_corpus("sherlok")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Texts as people keep them."""
    folder = tmp_path / "shelf"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_bytes(codecs.BOM_UTF8 + b"two\r\n")
    (folder / "a.txt").write_text("one")
    (folder / "deep" / "c.txt.gz").write_bytes(gzip.compress(b"three\n") + gzip.compress(b"3\n"))
    packed = zstandard.ZstdCompressor().compress
    (folder / "deep" / "d.zst").write_bytes(packed(b"four\n") + packed(b"4"))
    (folder / "deep" / "empty").write_text("")
    (folder / ".hidden").write_text("no")
    return folder


def test_a_folder_is_all_its_files_in_order(shelf: Path) -> None:
    corpus = load_corpus(str(shelf))
    assert corpus.text == "one\ntwo\nthree\n3\nfour\n4\n"
    assert corpus.symbols.documents == (0, 4, 8, 16)
    assert corpus.name == "shelf"
    assert any("5 files, 2 newlines put between" in note for note in corpus.notes)


def test_patterns_and_lists_name_files(shelf: Path) -> None:
    assert load_corpus(f"{shelf}/*.txt").text == "one\ntwo\n"
    assert load_corpus(f"{shelf}/**/*.zst").text == "four\n4"
    assert load_corpus(f"{shelf}/b.txt:{shelf}/a.txt").text == "two\none"
    assert load_corpus(f"{shelf}/b.txt:{shelf}/a.txt").name == "b"


def test_a_packed_text_is_the_same_corpus_as_the_plain_one(shelf: Path) -> None:
    plain, packed = shelf / "plain.txt", shelf / "packed.txt.gz"
    plain.write_bytes(BODY)
    packed.write_bytes(gzip.compress(BODY))
    assert load_corpus(str(plain)).sha256 == load_corpus(str(packed)).sha256 == SHA256
    assert load_corpus(str(packed)).name == "packed"


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_packed_text_that_was_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    data = gzip.compress(BODY) if suffix == "gz" else zstandard.ZstdCompressor().compress(BODY)
    (tmp_path / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorpusError, match="is damaged"):
        load_corpus(str(tmp_path / f"cut.{suffix}"))


@pytest.mark.parametrize("repair", [True, False])
def test_of_several_files_the_one_that_is_no_text_is_named(shelf: Path, repair: bool) -> None:
    (shelf / "m.bin").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(CorpusError, match=r"m\.bin: bytes ff fe fd at offset 0"):
        load_corpus(str(shelf), Rules(repair=repair))


def test_a_folder_without_files_and_a_file_that_is_not_there_are_named(shelf: Path) -> None:
    (shelf / "none").mkdir()
    with pytest.raises(CorpusError, match=r"none'.*no file"):
        load_corpus(str(shelf / "none"))
    with pytest.raises(CorpusError, match=r"no file"):
        load_corpus(f"{shelf}/*.pdf")
    with pytest.raises(CorpusError, match=r"z\.txt'"):
        load_corpus(f"{shelf}/a.txt:{shelf}/z.txt")


def test_the_vocabulary_is_the_whole_text_s_though_only_a_part_is_read() -> None:
    data = prepare_data(
        tiny_corpus("abcabcabcXYZ"),
        tiny_settings(max_symbols=6, streams=1, window=2, validation_fraction=0),
    )
    assert data.vocabulary.symbols == "XYZabc"
    assert data.streams.ids.tolist() == [3, 4, 5, 3, 4, 5]


def test_validation_is_the_end_of_the_text_and_empty_texts_are_refused() -> None:
    settings = tiny_settings(validation_fraction=0.2, streams=2, window=3)
    data = prepare_data(tiny_corpus("aaaaaaaabb"), settings)
    assert data.validation is not None
    assert (data.streams.ids.tolist(), data.validation.tolist()) == ([0] * 8, [1, 1])
    with pytest.raises(CorpusError, match="needs 2"):
        prepare_data(tiny_corpus("aaaab"), settings)
    with pytest.raises(CorpusError, match="empty"):
        prepare_data(tiny_corpus(""), settings)


@pytest.mark.parametrize("named", ["a.txt", "texts", "*.txt", "a.txt:texts/b.txt", "casebook"])
def test_a_corpus_is_named_so_that_it_is_found_from_another_folder(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "[old]"
    (folder / "texts").mkdir(parents=True)
    (folder / "a.txt").write_text("one text", encoding="utf-8")
    (folder / "texts" / "b.txt").write_text("another text", encoding="utf-8")
    monkeypatch.chdir(folder)
    before, absolute = load_corpus(named), from_anywhere(named)
    monkeypatch.chdir(folder / "texts")
    after = load_corpus(absolute)
    assert (after.name, after.sha256) == (before.name, before.sha256)
    assert from_anywhere(absolute) == absolute
