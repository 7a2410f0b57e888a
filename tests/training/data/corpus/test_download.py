"""A text comes from the web whole or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from training.data.corpus.corpus import load_corpus
from training.data.corpus.download import SOURCES, Source, fetch
from unroll.errors import CorpusError

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


def test_sources_are_pinned() -> None:
    for source in SOURCES.values():
        assert len(source.sha256) == 64
        assert len([part for part in source.url.split("/") if len(part) == 40]) == 1
