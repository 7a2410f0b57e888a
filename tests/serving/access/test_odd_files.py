"""A pipe, device or giant in place of a file of tokens, keys or certificates is told at once."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

import pytest

from serving.access.tls import TlsFiles, server_credentials
from serving.access.tokens import NewToken, Tokens, issue
from serving.rpc.keys import WatchedKeys
from tests.serving.running import PATIENCE
from unroll.errors import SettingsError
from unroll.files import SETTINGS_BYTES


def make_giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SETTINGS_BYTES + 1)


ODD: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/tty"),
    "folder": Path.mkdir,
    "giant": make_giant,
}
odd = pytest.mark.parametrize("make", ODD.values(), ids=ODD)


def at_once(call: Callable[[], object]) -> object:
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except Exception as error:
            done.set_exception(error)

    Thread(target=run, daemon=True).start()  # one that waits for ever must not hold up the end
    return done.result(PATIENCE)  # whoever waits for the writer of a pipe waits for ever


@odd
@pytest.mark.parametrize(
    "use",
    [
        Tokens,
        WatchedKeys,
        lambda path: server_credentials(TlsFiles(certificate=path, key=path, client_ca=None)),
    ],
    ids=["tokens", "keys", "tls"],
)
def test_odd_file_is_refused_at_the_start(
    tmp_path: Path, make: Callable[[Path], None], use: Callable[[Path], object]
) -> None:
    path = tmp_path / "file"
    make(path)
    with pytest.raises(SettingsError, match=str(path)):
        at_once(lambda: use(path))


@odd
def test_odd_file_that_takes_the_place_of_tokens_lets_nobody_in(
    tmp_path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=path)).encode()
    tokens = Tokens(path)
    assert tokens.name_of(token) == "anna"
    path.unlink()
    make(path)
    assert at_once(lambda: tokens.name_of(token)) is None
    assert "all callers are refused" in caplog.text
