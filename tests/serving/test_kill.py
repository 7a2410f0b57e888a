"""What survives SIGKILL: streams, on another server; sessions, on the same folder."""

import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import pytest

from serving.sessions.capsule import KEYS_VARIABLE
from tests.serving.running import ENDLESS, PATIENCE, server_process
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions, SessionOptions

pytestmark = pytest.mark.slow

STREAMS = 32
LONG_PATIENCE = 6 * PATIENCE
NEW_SYMBOLS = 4_000
LONG = GenerateOptions(max_new_symbols=ENDLESS)
UNBOUNDED = ("--max-new-symbols", str(ENDLESS))
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
            arguments = ("--model", f"{name}={tiny_bundles['lstm']}", *UNBOUNDED)
            started.append(stack.enter_context(server_process(folder, *arguments)))
        yield started[0], started[1]


def asked(seed: int) -> GenerateOptions:
    return GenerateOptions(max_new_symbols=NEW_SYMBOLS, seed=seed, log_probs=True)


def breaks(caplog: pytest.LogCaptureFixture) -> int:
    return sum("stream broke" in record.message for record in caplog.records)


def test_streams_of_a_killed_server_go_on_elsewhere(
    two_servers: tuple[Process, Process], caplog: pytest.LogCaptureFixture
) -> None:
    """Endless streams, so that each is under way when its server is killed."""
    caplog.set_level(logging.INFO, "unroll.client.remote.resume")
    (process, first), (_, second) = two_servers
    everybody_reads = threading.Barrier(STREAMS + 1)

    def stream(client: Client, seed: int) -> tuple[str, tuple[float, ...]]:
        text = ""
        log_probs: list[float] = []
        endless = replace(asked(seed), max_new_symbols=ENDLESS)
        pieces = client.stream("abc", endless, resume=True, timeout=LONG_PATIENCE)
        with closing(pieces):
            for count, piece in enumerate(pieces):
                text += piece.text
                log_probs += piece.log_probs
                if count == seed % 3:
                    everybody_reads.wait(LONG_PATIENCE)
                if len(text) >= NEW_SYMBOLS and breaks(caplog) >= STREAMS:
                    return text, tuple(log_probs)
        raise AssertionError("it ended")

    with Client([first, second]) as client, ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(stream, client, seed) for seed in range(STREAMS)]
        everybody_reads.wait(LONG_PATIENCE)
        process.kill()
        together = [future.result(LONG_PATIENCE) for future in running]
    with Client(second) as client:
        for seed, (text, log_probs) in enumerate(together):
            alone = client.generate("abc", replace(asked(seed), max_new_symbols=len(text)))
            assert (text, log_probs) == (alone.text, alone.log_probs)


def test_sessions_outlive_a_killed_server(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    state = ("--state-dir", str(tmp_path / "state"))
    arguments = ("--model", str(tiny_bundles["gru"]), *state, *UNBOUNDED)
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
