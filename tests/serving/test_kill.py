"""What survives SIGKILL: streams, on another server; sessions, on the same folder."""

import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from serving.sessions.capsule import KEYS_VARIABLE
from tests.serving.running import PATIENCE, server_process
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions, SessionOptions
from unroll.results import Generation, Piece

pytestmark = pytest.mark.slow

STREAMS = 32
LONG_PATIENCE = 6 * PATIENCE
NEW_SYMBOLS = 4_000
LONG = GenerateOptions(max_new_symbols=65_536)  # takes seconds
Process = tuple["Popen[str]", str]


@pytest.fixture
def two_servers(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Process, Process]]:
    """Two processes that serve the same bundle and share a capsule key."""
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    with ExitStack() as stack:
        started = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            arguments = ("--model", f"{name}={tiny_bundles['lstm']}")
            started.append(stack.enter_context(server_process(folder, *arguments)))
        yield started[0], started[1]


def asked(seed: int) -> GenerateOptions:
    return GenerateOptions(max_new_symbols=NEW_SYMBOLS, seed=seed, log_probs=True)


def joined(pieces: list[Piece]) -> Generation:
    """Join the pieces of a stream, without its last capsule."""
    completion = pieces[-1].completion
    assert completion is not None
    return Generation(
        text="".join([piece.text for piece in pieces]),
        log_probs=tuple(value for piece in pieces for value in piece.log_probs),
        completion=completion,
    )


def without_capsule(whole: Generation) -> Generation:
    return Generation(text=whole.text, log_probs=whole.log_probs, completion=whole.completion)


def breaks(caplog: pytest.LogCaptureFixture) -> int:
    return sum("stream broke" in record.message for record in caplog.records)


def test_streams_of_a_killed_server_go_on_elsewhere(
    two_servers: tuple[Process, Process], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unroll.client.remote.resume")
    (process, first), (_, second) = two_servers
    everybody_reads = threading.Barrier(STREAMS + 1)

    def stream(client: Client, seed: int) -> Generation:
        pieces = []
        for piece in client.stream("abc", asked(seed), resume=True, timeout=LONG_PATIENCE):
            pieces.append(piece)
            if len(pieces) == 1 + seed % 3:
                everybody_reads.wait(LONG_PATIENCE)
        return joined(pieces)

    with Client(second) as client:
        alone = [without_capsule(client.generate("abc", asked(seed))) for seed in range(STREAMS)]
    with Client([first, second]) as client, ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(stream, client, seed) for seed in range(STREAMS)]
        everybody_reads.wait(LONG_PATIENCE)
        process.kill()
        together = [future.result(LONG_PATIENCE) for future in running]
    assert together == alone
    assert breaks(caplog) >= STREAMS // 2, "the streams must be cut, else this tests nothing"


def test_sessions_outlive_a_killed_server(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    arguments = ("--model", str(tiny_bundles["gru"]), "--state-dir", str(tmp_path / "state"))
    with server_process(tmp_path, *arguments) as (process, address), Client(address) as client:
        sessions = [client.start_session(SessionOptions(seed=seed)) for seed in range(8)]
        replies = [session.generate("abc", asked(0)) for session in sessions[1:]]
        left_open = sessions[-1].stream("def", LONG)
        next(left_open)
        process.kill()
        process.wait(PATIENCE)
    (tmp_path / "port").unlink()
    with server_process(tmp_path, *arguments) as (_, address), Client(address) as client:
        assert client.get_session(sessions[0].session_id).position == 0
        for session, reply in zip(sessions[1:], replies, strict=True):
            again = client.get_session(session.session_id)
            assert again.position == reply.completion.position == 3 + NEW_SYMBOLS
            expected = client.generate("fed", asked(7), capsule=reply.capsule)
            assert again.generate("fed", asked(7)) == expected
