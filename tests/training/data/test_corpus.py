"""Corpora: finding, downloading, decoding."""

import codecs
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import tiny_corpus, tiny_settings
from training.data.corpus import load_corpus
from training.data.decoding import decode_text
from training.data.download import SOURCES, Source, fetch
from training.data.prepared import prepare_data
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


def load(url: str, cache: Path, sha256: str = SHA256) -> str:
    sources = {"night": Source(url=url, sha256=sha256)}
    return load_corpus("night", cache=cache, sources=sources).text


def test_a_download_comes_whole_and_is_cached(url: str, tmp_path: Path) -> None:
    assert load(f"{url}/whole", tmp_path) == BODY.decode()
    assert [file.name for file in tmp_path.iterdir()] == ["night.txt"]
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
    assert list(tmp_path.iterdir()) == []


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
    assert list(tmp_path.iterdir()) == []


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


def test_a_folder_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is a folder; name a text file in it"):
        load_corpus(str(tmp_path))


def test_sources_are_pinned() -> None:
    for source in SOURCES.values():
        assert len(source.sha256) == 64
        assert len([part for part in source.url.split("/") if len(part) == 40]) == 1


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r\ufeff"), max_size=50))
def test_utf8_text_of_any_script_is_read_as_it_is(text: str) -> None:
    decoded, notes = decode_text(text.encode(), "utf-8", "any")
    assert decoded == text or "encoded twice" in notes[0]


@pytest.mark.parametrize(
    "text", ["안녕하세요 세계", "e\u0301te\u0301", "👩‍🔬 wins", "Жизнь", "naïve café £5 – “so”"]
)
def test_scripts_emoji_and_combining_marks_are_left_alone(text: str) -> None:
    assert decode_text(text.encode(), "utf-8", "any") == (text, ())


def test_byte_order_mark_and_carriage_returns_are_removed_with_a_note() -> None:
    data = codecs.BOM_UTF8 + b"one\r\ntwo\rthree\n"
    text, notes = decode_text(data, "utf-8", "any")
    assert text == "one\ntwo\nthree\n"
    assert len(notes) == 2


def test_text_that_was_encoded_twice_is_repaired_with_a_note() -> None:
    right = "The café at St. Denis, £5 and an écu; the Comtesse’s bijoux.\n"
    wrong = right.encode().decode("cp1252")
    text, notes = decode_text((wrong * 3).encode(), "utf-8", "any")
    assert text == (right * 3).replace("’", text[right.index("’")])
    assert len(text) == 3 * len(right)
    assert "encoded twice" in notes[0]


def test_undecodable_bytes_name_the_offset_and_the_encodings_worth_trying() -> None:
    with pytest.raises(CorpusError, match="offset 3 are not utf-8") as raised:
        decode_text("caf\u00e9 noir".encode("cp1252"), "utf-8", "cafe")
    assert "cp1252" in str(raised.value)
    korean = "안녕하세요".encode("euc-kr")
    with pytest.raises(CorpusError, match="euc-kr"):
        decode_text(korean, "utf-8", "greeting")
    assert decode_text(korean, "euc-kr", "greeting")[0] == "안녕하세요"
    with pytest.raises(CorpusError, match=r"trying: utf-16$"):
        decode_text("hello".encode("utf-16"), "utf-8", "hello")


def test_unknown_encodings_are_a_setting_error() -> None:
    with pytest.raises(SettingsError, match="no such encoding"):
        decode_text(b"a", "utf-9", "any")


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
