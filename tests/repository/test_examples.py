"""Each example against real servers: it ends well and shows what it says."""

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from serving.access.tokens import NewToken, issue
from serving.sessions.capsule import KEYS_VARIABLE
from tests.needed import without
from tests.serving.access.certificates import Authority
from tests.serving.running import PATIENCE, RunningServer, serve, server_process
from training.settings import Cell
from unroll.__main__ import main

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(str(tiny_bundles["gru"])) as running:
        yield running


def command(example: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"examples.{example}", *arguments]


def run(example: str, *arguments: str) -> str:
    return subprocess.run(
        command(example, *arguments),
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=EXAMPLES.parent,
        timeout=6 * PATIENCE,
    ).stdout


def test_session_fork_rewind(server: RunningServer) -> None:
    output = run("session_fork_rewind", server.address)
    forks = re.findall("^fork: (.*)$", output, re.MULTILINE)
    assert len(set(forks)) == 3
    assert "marks: (0, 42, 82)" in output
    assert "second again is the same: True" in output


def test_capsule_held_by_client(server: RunningServer) -> None:
    output = run("capsule_held_by_client", server.address)
    assert "at position 62" in output
    assert "the parts make the whole: True" in output


def test_scoring(server: RunningServer) -> None:
    output = run("scoring", server.address)
    likely, backwards, after = map(float, re.findall(r"([\d.]+) bits per character", output))
    assert 0 < likely < backwards
    assert 0 < after < backwards
    assert all(0 < float(p) < 1 for p in re.findall(r"probability ([\d.]+)", output))


def test_looking_inside(server: RunningServer) -> None:
    output = run("looking_inside", server.address)
    (score,) = re.findall(r"^Unit\(.*\) (?:falls|rises), score ([\d.]+)$", output, re.MULTILINE)
    assert 0.5 < float(score) <= 1
    along = re.findall(r" ([\d.]+), likeliest '.{3,6}' +unit ([+-][\d.]+)$", output, re.MULTILINE)
    assert len(along) == 20
    assert all(0 < float(p) < 1 and abs(float(value)) <= 1 for p, value in along)


def test_async_client(server: RunningServer) -> None:
    output = run("async_client", server.address)
    assert len(re.findall("^line: ", output, re.MULTILINE)) == 8
    assert re.findall(r"^seed (\d+)", output, re.MULTILINE) == ["100", "101", "102"]


def test_surviving_stream(
    server: RunningServer,
    tiny_bundles: dict[Cell, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    arguments = ("--model", str(tiny_bundles["gru"]))
    with (
        server_process(tmp_path, *arguments) as (process, first),
        serve(str(tiny_bundles["gru"])) as second,
        subprocess.Popen(
            command("surviving_stream", first, second.address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=EXAMPLES.parent,
        ) as example,
    ):
        assert example.stdout is not None
        assert "symbols" in example.stdout.readline()
        process.kill()
        output, told = example.communicate(timeout=6 * PATIENCE)
    assert example.returncode == 0, told
    assert "stream broke" in told, "the stream must be cut, else this tests nothing"
    assert "the text is the uncut one: True" in output


def test_secure(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    authority, known, token = Authority(tmp_path, "ours"), tmp_path / "tokens", tmp_path / "token"
    own = authority.issue("127.0.0.1")
    token.write_text(issue(NewToken(name="anna", file=known)), encoding="ascii")
    with serve(
        str(tiny_bundles["gru"]), tls_certificate=own.certificate, tls_key=own.key, tokens=known
    ) as running:
        output = run("secure", running.address, str(authority.file), str(token))
    assert re.search("^text: '.+'$", output, re.MULTILINE)
    assert "a stranger is told: a valid token is needed" in output


def test_bulk_ray(tiny_bundles: dict[Cell, Path]) -> None:
    if find_spec("ray") is None:
        without("Ray is not installed: pip install 'ray[data]'", "REQUIRE_RAY")
    output = run("bulk_ray", str(tiny_bundles["gru"]), "600")
    assert "600 records, sha256 " in output
    assert "the union of 3 shards is what one process makes: True" in output


NAMES = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"__init__"})


@pytest.mark.parametrize("name", NAMES)
def test_example_without_arguments_tells_what_it_takes(name: str) -> None:
    if name == "bulk_ray" and find_spec("ray") is None:
        without("Ray is not installed: pip install 'ray[data]'", "REQUIRE_RAY")
    done = subprocess.run(
        command(name), check=False, capture_output=True, text=True, cwd=EXAMPLES.parent
    )
    assert done.returncode == 2
    assert re.match(rf"usage: python -m examples\.{name} \[-h\] \S", done.stderr)


def test_every_example_is_run_here() -> None:
    assert {*NAMES} == {name.removeprefix("test_") for name in globals()} & {*NAMES}
    assert len(NAMES) == 9


def test_valid_texts_of_an_address_wants_a_bundle() -> None:
    done = subprocess.run(
        command("valid_texts", "127.0.0.1:1"),
        check=False,
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parent,
    )
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert told.startswith("examples.valid_texts: ")
    assert "127.0.0.1:1: no bundle there" in told


def test_valid_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, bundle = str(tmp_path / "people.txt"), str(tmp_path / "bundle")
    run("valid_texts", text)
    monkeypatch.chdir(tmp_path)
    unroll(
        "train",
        "--preset=quick",
        "--minutes=0",
        "--epochs=1",
        "--hidden-size=24",
        "--name=p",
        f"--corpus={text}",
    )
    unroll("export", "--checkpoint=runs/p", f"--bundle={bundle}")
    output = run("valid_texts", bundle)
    for kind in ("name", "date", "JSON"):
        assert len(re.findall(f"^{kind}: ", output, re.MULTILINE)) == 5


def unroll(*tokens: str) -> None:
    """Do in this process what the command does: to start one takes seconds."""
    with pytest.raises(SystemExit) as ended:
        main(tokens)
    assert not ended.value.code
