"""What `unroll serve` tells whoever starts it."""

import os
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from serving.settings import ServerSettings
from tests.serving.running import PATIENCE, server_process
from training.settings import Cell

KEY = "5a" * 32


def said(tmp_path: Path, *arguments: str) -> tuple[str, str]:
    """Run a server from start to drain; returns its output and its log."""
    with server_process(tmp_path, *arguments) as (process, _):
        process.send_signal(signal.SIGTERM)
        return process.communicate(timeout=PATIENCE)


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNROLL_CAPSULE_KEYS", raising=False)


@pytest.mark.usefixtures("no_keys")
def test_a_first_server_warns_of_nothing(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    output, log = said(tmp_path, "--model", f"fog={tiny_bundles['gru']}")
    assert "WARNING" not in log
    assert "metrics" not in output


@pytest.mark.usefixtures("no_keys")
def test_sessions_that_outlive_their_capsules_are_warned_of(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = str(tmp_path / "state")
    _, log = said(tmp_path, "--model", str(tiny_bundles["gru"]), "--state-dir", folder)
    assert log.count("no capsule keys") == 1
    assert "--capsule-keys FILE or UNROLL_CAPSULE_KEYS" in log


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("settings", "outlives"),
    [
        ({}, False),
        ({"processes": 3}, False),
        ({"state_dir": Path("s")}, True),
        ({"state_dir": Path("s"), "capsule_keys": Path("k")}, False),
        ({"store": "redis://there"}, True),
        ({"host": "0.0.0.0", "plaintext_anywhere": True}, True),
        ({"host": "::1"}, False),
    ],
)
def test_keys_are_missed_where_capsules_could_be_used_later_or_elsewhere(
    settings: dict[str, Any], outlives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ServerSettings(model=("m",), **settings)
    assert asked.outlives_its_capsules is outlives
    monkeypatch.setenv("UNROLL_CAPSULE_KEYS", KEY)
    assert not asked.outlives_its_capsules


@pytest.mark.parametrize(
    "processes", [1, pytest.param(2, marks=pytest.mark.slow)], ids="{} processes".format
)
def test_the_port_of_metrics_is_told(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, processes: int
) -> None:
    arguments = ("--model", str(tiny_bundles["gru"]), "--metrics-port", "0")
    with server_process(tmp_path, *arguments, "--processes", str(processes)) as (process, _):
        assert process.stdout is not None
        output = os.read(process.stdout.fileno(), 2**16).decode()  # is written at once
        told = re.findall(r"^metrics at (http://127.0.0.1:\d+/metrics)$", output, re.MULTILINE)
        assert len(told) == 1
        with urllib.request.urlopen(told[0], timeout=PATIENCE) as page:
            assert b"unroll_slots" in page.read()
