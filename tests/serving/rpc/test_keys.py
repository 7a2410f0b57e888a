"""Capsule keys change while the server runs."""

import logging
import secrets
from pathlib import Path

import pytest

import serving.server
from serving.rpc.keys import WatchedKeys
from tests.serving.running import PATIENCE, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import CapsuleError
from unroll.options import GenerateOptions

ASKED = GenerateOptions(max_new_symbols=5, seed=3)


def put(path: Path, *keys: str) -> None:
    """Replace a file of keys at once, as an operator should."""
    draft = path.with_name("draft")
    draft.write_text("# keys\n" + "".join(f"{key}\n" for key in keys), encoding="ascii")
    draft.rename(path)


def is_accepted(client: Client, capsule: bytes) -> bool:
    try:
        return bool(client.generate("", ASKED, capsule=capsule, timeout=PATIENCE).text)
    except CapsuleError:
        return False


def test_keys_rotate_without_a_restart(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.server, "TIDY_SECONDS", 0.02)
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    file = tmp_path / "keys"
    put(file, old)
    with (
        serve(str(tiny_bundles["gru"]), capsule_keys=file) as running,
        running.client() as client,
    ):
        first = client.generate("abc", ASKED).capsule
        put(file, new, old)
        wait_for(lambda: client.generate("abc", ASKED).capsule != first)
        second = client.generate("abc", ASKED).capsule
        assert is_accepted(client, first)
        put(file, new)
        wait_for(lambda: not is_accepted(client, first))
        assert is_accepted(client, second)


def test_file_with_an_error_leaves_the_keys_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, key = tmp_path / "keys", secrets.token_hex(32)
    put(file, key)
    watched = WatchedKeys(file)
    signing = watched.keys.signing_id
    for text in ("not hex", "abcd", ""):
        caplog.clear()
        put(file, text)
        for _ in range(3):
            watched.renew()
        assert watched.keys.signing_id == signing
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert text not in caplog.text or not text
    put(file, secrets.token_hex(32))
    watched.renew()
    assert watched.keys.signing_id != signing
