"""The page's files, as the server gives them to anybody."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from serving.access.tokens import NewToken, issue
from serving.http.files import FOLDER, MEDIA
from tests.serving.http.asking import ask
from tests.serving.running import RunningServer, serve
from training.settings import Cell

FILES = sorted(file for file in FOLDER.rglob("*.*") if file.suffix in MEDIA)


def test_each_file_is_served_as_what_it_is_under_a_strict_policy(server: RunningServer) -> None:
    for file in FILES:
        name = file.relative_to(FOLDER).as_posix()
        answer = ask(server, "GET", "/" if name == "index.html" else f"/page/{name}")
        assert (answer.status, answer.body) == (200, file.read_bytes()), name
        assert answer.headers["content-type"] == MEDIA[file.suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "frame-ancestors 'none'", "script-src 'self'"} <= set(policy)
        assert not [each for each in policy if "unsafe" in each or ":" in each]


def test_browser_that_has_a_file_is_not_sent_it_again(server: RunningServer) -> None:
    first = ask(server, "GET", "/page/main.js")
    again = ask(server, "GET", "/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    other = ask(server, "GET", "/page/base.css", headers={"if-none-match": first.headers["etag"]})
    assert other.status == 200


@pytest.mark.parametrize(
    "path", ["/page/", "/page/gone.js", "/page/../app.py", "/page/%2e%2e/app.py"]
)
def test_nothing_else_is_served(server: RunningServer, path: str) -> None:
    assert ask(server, "GET", path).status == 404


def test_page_needs_no_token(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    issue(NewToken(name="anna", file=file))
    with serve(str(tiny_bundles["gru"]), tokens=file, http_port=0) as running:
        assert [ask(running, "GET", path).status for path in ("/", "/page/main.js")] == [200, 200]


@pytest.mark.parametrize(
    "file", [each for each in FILES if "vendor" not in each.parts], ids=lambda f: f.name
)
def test_page_holds_no_code_or_style_of_its_own_and_asks_nobody_else(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not re.search(r"""\bon\w+=["']|style=["']|<style|<script(?! type="module" src=)""", text)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", text)
    if file.suffix == ".js":
        assert len(text.splitlines()) <= 200
        assert "dangerouslySetInnerHTML" not in text


def test_vendored_module_is_the_one_that_is_named() -> None:
    told = (FOLDER / "vendor" / "LICENSES.txt").read_text("utf-8")
    digest = sha256((FOLDER / "vendor" / "htm-preact.js").read_bytes()).hexdigest()
    assert f"sha256: {digest}" in told
