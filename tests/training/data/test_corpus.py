"""Corpora: finding, downloading, decoding."""

import codecs
import gzip
import hashlib
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import tiny_corpus, tiny_settings
from training.data.corpus.corpus import from_anywhere, load_corpus
from training.data.corpus.download import SOURCES, Source, fetch
from training.data.decoding.decode import Facts, Rules, decode
from training.data.prepared import prepare_data
from unroll.bundle.form import TextForm
from unroll.errors import CorpusError, SettingsError

BODY = b"It was a dark and stormy night; the rain fell in torrents.\n" * 50
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY whole, cut short, or not at all, by path."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: 100 if self.path == "/short" else None])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def decode_text(data: bytes, rules: Rules, name: str) -> tuple[str, Facts]:
    pieces, facts = decode([(name, lambda: [data])], rules)
    return "".join(pieces), facts


def load(url: str, cache: Path, sha256: str = SHA256) -> str:
    sources = {"night": Source(url=url, sha256=sha256)}
    return load_corpus("night", cache=cache, sources=sources).text


def test_a_download_comes_whole_and_is_cached(url: str, tmp_path: Path) -> None:
    assert load(f"{url}/whole", tmp_path) == BODY.decode()
    assert [file.name for file in (tmp_path / "corpora").iterdir()] == ["night.txt"]
    assert load("http://127.0.0.1:9/nobody", tmp_path) == BODY.decode()


@pytest.mark.parametrize(
    ("page", "sha256", "message"),
    [
        ("short", SHA256, "could not be downloaded"),
        ("missing", SHA256, "404"),
        ("whole", "0" * 64, "is not the pinned version"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(
    url: str, tmp_path: Path, page: str, sha256: str, message: str
) -> None:
    with pytest.raises(CorpusError, match=message) as raised:
        load(f"{url}/{page}", tmp_path, sha256)
    assert "$CORPUS_DIR/night.txt" in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_interrupted_download_leaves_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    class Interrupted(pooch.HTTPDownloader):  # type: ignore[misc]
        def __call__(self, url: str, output_file: str, pooch: object) -> None:
            Path(output_file).write_bytes(BODY[:100])
            seen.extend(tmp_path.iterdir())
            raise KeyboardInterrupt

    monkeypatch.setattr("pooch.HTTPDownloader", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(f"{url}/whole", tmp_path)
    assert [file.name == "night.txt" for file in seen] == [False]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_server_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="could not be downloaded"):
        fetch("night", Source(url="http://127.0.0.1:9/x", sha256=SHA256), tmp_path / "cache")


def test_corpus_dir_comes_before_the_cache_and_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "night.txt").write_bytes(BODY)
    monkeypatch.setenv("CORPUS_DIR", str(given))
    assert load("http://127.0.0.1:9/x", tmp_path / "cache") == BODY.decode()
    (given / "night.txt").write_bytes(BODY[1:])
    with pytest.raises(CorpusError, match=f"expected {SHA256}"):
        load("http://127.0.0.1:9/x", tmp_path / "cache")


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


def test_sources_are_pinned() -> None:
    for source in SOURCES.values():
        assert len(source.sha256) == 64
        assert len([part for part in source.url.split("/") if len(part) == 40]) == 1


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=50))
def test_utf8_text_of_any_script_is_read_as_it_is(text: str) -> None:
    decoded, facts = decode_text(text.encode(), Rules(), "any")
    assert decoded == text or "encoded twice" in facts.notes(Rules())[0]


@pytest.mark.parametrize(
    "text", ["안녕하세요 세계", "e\u0301te\u0301", "👩‍🔬 wins", "Жизнь", "naïve café £5 – “so”"]
)
def test_scripts_emoji_and_combining_marks_are_left_alone(text: str) -> None:
    decoded, facts = decode_text(text.encode(), Rules(), "any")
    assert (decoded, facts.notes(Rules())) == (text, ())


def test_byte_order_mark_and_carriage_returns_are_removed_with_a_note() -> None:
    data = codecs.BOM_UTF8 + b"one\r\ntwo\rthree\n"
    text, facts = decode_text(data, Rules(), "any")
    assert text == "one\ntwo\nthree\n"
    assert len(facts.notes(Rules())) == 2


def test_text_that_was_encoded_twice_is_repaired_with_a_note() -> None:
    right = "The café at St. Denis, £5 and an écu; the Comtesse’s bijoux.\n"
    wrong = right.encode().decode("cp1252")
    text, facts = decode_text((wrong * 3).encode(), Rules(), "any")
    assert text == (right * 3).replace("’", text[right.index("’")])
    assert len(text) == 3 * len(right)
    (note,) = facts.notes(Rules())
    assert "encoded twice: 'Ã©' to 'é' (6 times)" in note
    kept, facts = decode_text((wrong * 3).encode(), Rules(repair=False), "any")
    assert (kept, facts.notes(Rules(repair=False))) == (wrong * 3, ())


@pytest.mark.parametrize("text", ["literele Ă, Â și Î; Â este", "Â £5", "PÂTÉ »", "l’été: Ã et Â."])
def test_correct_text_is_not_repaired(text: str) -> None:
    """ftfy takes a lone Â before a space for half a no-break space."""
    assert decode_text(text.encode(), Rules(), "any")[0] == text


def test_a_few_places_that_look_encoded_twice_are_left_alone_and_told() -> None:
    text = "déjà vu, naïveté, façade, hôtel; cafÃ© " * 3
    decoded, facts = decode_text(text.encode(), Rules(), "any")
    assert decoded == text
    (note,) = facts.notes(Rules())
    assert "left alone" in note
    assert "'Ã©' to 'é' (3 times)" in note


def test_carriage_returns_are_kept_where_that_is_asked_for() -> None:
    rules = Rules(keep_line_ends=True)
    text, facts = decode_text(b"one\r\ntwo\r", rules, "any")
    assert (text, facts.notes(rules)) == ("one\r\ntwo\r", ())
    assert facts.form(rules) == TextForm(line_ends="any", unicode="nfc")


def test_the_form_is_nfc_where_the_whole_text_is() -> None:
    composed, apart = "é\n" * 5, "é\n" * 4 + "e\u0301"
    assert decode_text(composed.encode(), Rules(), "any")[1].form(Rules()).unicode == "nfc"
    assert decode_text(apart.encode(), Rules(), "any")[1].form(Rules()).unicode == "any"
    assert decode_text(composed.encode(), Rules(), "any")[1].form(Rules(nfc=False)).unicode == "any"


@given(
    text=st.text(st.sampled_from("ab\r\né€\U0001f600\ufeff"), max_size=40),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
)
def test_text_does_not_depend_on_where_its_bytes_are_cut(
    text: str, cuts: list[int], encoding: str
) -> None:
    data, rules = text.encode(encoding), Rules(encoding=encoding)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(ends)]
    pieces, facts = decode([("any", lambda: chunks)], rules)
    whole, of_whole = decode_text(data, rules, "any")
    assert "".join(pieces) == whole
    assert facts.notes(rules) == of_whole.notes(rules)


RUSSIAN = "Жизнь прожить - не поле перейти. Все счастливые семьи похожи друг на друга. "
LOWER = "под деревом спит собака, "


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (LOWER, "cp1251"),
        (LOWER, "koi8-r"),
        ("un café noir, naïve, très bien", "cp1252"),
        ("안녕하세요", "euc-kr"),
        ("吾輩は猫である。名前はまだ無い。", "shift_jis"),
        ("hello", "utf-16"),
        ("hello", "utf-32"),
        ("hello there", "utf-16-le"),
        ("hello there", "utf-16-be"),
        ("hello there", "utf-32-le"),
        (RUSSIAN, "utf-16-le"),
        (RUSSIAN, "utf-16-be"),
        ("人之初，性本善。\n" * 9, "utf-16-le"),
    ],
)
def test_a_refused_text_names_the_encoding_it_is_in(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    with pytest.raises(CorpusError) as raised:
        decode_text(data, Rules(), "any")
    first = str(raised.value).partition("trying: ")[2].partition(";")[0].split(", ")[0]
    assert first == encoding
    assert decode_text(data, Rules(encoding=first), "any")[0] == text


@pytest.mark.parametrize(
    ("data", "what"),
    [(gzip.compress(b"text", mtime=0), "gzip"), (b"PK\x03\x04rest", "zip"), (b"%PDF-1.7", "PDF")],
)
def test_what_is_no_text_is_named(data: bytes, what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        decode_text(data, Rules(), "any")


def test_nuls_that_end_names_are_symbols_of_the_text() -> None:
    data = b"notes/of a journey.txt\0notes/of another journey.txt\0letters.txt\0" * 9
    assert decode_text(data, Rules(), "any")[0] == data.decode()


def test_undecodable_bytes_name_the_offset_and_can_be_replaced() -> None:
    data = "caf\u00e9 noir".encode("cp1252")
    with pytest.raises(CorpusError, match=r"e9 20 6e 6f at offset 3 are not utf-8.*--bad-bytes"):
        decode_text(data, Rules(), "cafe")
    pieces, _ = decode([("cafe", lambda: [b"abc" * 100, data])], Rules(repair=False))
    with pytest.raises(CorpusError, match=r"at offset 303 are not utf-8"):
        list(pieces)
    with pytest.raises(CorpusError, match=r"c3 at offset 300 are not utf-8"):
        decode_text(b"abc" * 100 + b"\xc3", Rules(), "cut off")
    rules = Rules(bad_bytes="replace")
    text, facts = decode_text(data, rules, "cafe")
    assert text == "caf\ufffd noir"
    assert "1 symbols are U+FFFD" in facts.notes(rules)[0]


def test_unknown_encodings_are_a_setting_error() -> None:
    with pytest.raises(SettingsError, match="no such encoding"):
        decode_text(b"a", Rules(encoding="utf-9"), "any")


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
