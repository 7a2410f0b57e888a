"""Signals that come at a bad moment: while models are loaded, and while the server drains."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving.running import PATIENCE, server_process, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions

# A server whose models take long to load, and that says when it has begun.
SLOW = """
import os, sys, time
from pathlib import Path
from serving.__main__ import main
from serving.engine.models import Models

load = Models.load

def slowly(*arguments, **more):
    Path(sys.argv[1]).touch()
    while not Path(sys.argv[1] + ".go").exists():
        time.sleep(0.01)
    return load(*arguments, **more)

Models.load = slowly
main(["--port", "0", "--model", sys.argv[2]])
"""


@contextmanager
def loading(tmp_path: Path, bundle: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a server that loads its models until the file `begun.go` is there."""
    begun = tmp_path / "begun"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(begun), str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: begun.exists() or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_sighup_while_models_are_loaded_reloads_when_they_are(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with loading(tmp_path, tiny_bundles["gru"]) as process:
        process.send_signal(signal.SIGHUP)
        (tmp_path / "begun.go").touch()
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("the same bundle" in line for line in lines)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def test_second_sigterm_while_models_are_loaded_ends_the_process_at_once(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with loading(tmp_path, tiny_bundles["gru"]) as process:
        wait_for(lambda: has_ended(process))  # two that come together may count as one
        assert process.returncode == -signal.SIGTERM


def has_ended(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> bool:
    process.send_signal(number)
    return process.poll() is not None


def test_sighup_while_draining_is_ignored_to_the_end(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    asked = GenerateOptions(max_new_symbols=20_000)
    with (
        server_process(tmp_path, "--model", str(tiny_bundles["gru"])) as (process, address),
        Client(address) as client,
    ):
        stream = client.stream("abc", asked, timeout=PATIENCE)
        text = next(stream).text
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert any("draining" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGHUP)
        text += "".join(piece.text for piece in stream)
        assert len(text) == 20_000
        wait_for(lambda: has_ended(process, signal.SIGHUP))
        assert process.returncode == 0
