"""Old connections are closed: what runs on them for too long ends typed, or goes on elsewhere."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.settings import ServerSettings
from tests.serving.running import NARROW, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import UnavailableError
from unroll.options import GenerateOptions, SessionOptions

pytestmark = pytest.mark.slow

NEW_SYMBOLS = 12_000
LONG = GenerateOptions(max_new_symbols=NEW_SYMBOLS, seed=3, log_probs=True)
# A reader this slow takes 2 s or more for it: a piece has no more symbols than the server holds.
SLOW, BUFFER = 0.05, 256


@pytest.fixture
def impatient(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    """A server whose connections live for a second at most."""
    ages = {"max_connection_age_seconds": 0.4, "max_connection_age_grace_seconds": 0.4}
    with serve(str(tiny_bundles["gru"]), buffer_symbols=BUFFER, **ages) as running:
        yield running


def slow_client(running: RunningServer) -> Client:
    channel = grpc.insecure_channel(running.address, options=NARROW)
    return Client(channel=channel, retries=9)  # a short call, too, may meet the end of one


def test_resumed_stream_outlives_its_connections(
    impatient: RunningServer, tiny_bundles: dict[Cell, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unroll.client.remote.resume")
    text = ""
    log_probs: list[float] = []
    with slow_client(impatient) as client:
        for piece in client.stream("abc", LONG, resume=True, timeout=PATIENCE):
            text += piece.text
            log_probs += piece.log_probs
            if caplog.text.count("a stream broke") < 2:
                time.sleep(SLOW)
    assert caplog.text.count("max connection age") >= 2
    with serve(str(tiny_bundles["gru"])) as other, other.client() as client:
        alone = client.generate("abc", LONG)
    assert text == alone.text
    assert tuple(log_probs) == alone.log_probs


def test_other_calls_end_typed_and_free_what_they_held(impatient: RunningServer) -> None:
    with slow_client(impatient) as client:
        session = client.start_session(SessionOptions(seed=3))
        with pytest.raises(UnavailableError, match="max connection age"):
            read_slowly(session.stream("abc", LONG, timeout=PATIENCE))
        wait_for(lambda: not len(impatient.sequences()))
        wait_for(lambda: not impatient.server.sessions.in_use)
        assert session.describe(timeout=PATIENCE).position == 0
        short = GenerateOptions(max_new_symbols=20)
        again = session.generate("abc", short, timeout=PATIENCE).text
        assert again == client.generate("abc", GenerateOptions(max_new_symbols=20, seed=3)).text


def read_slowly(pieces: Iterator[object]) -> None:
    for _ in pieces:
        time.sleep(SLOW)


def test_connections_grow_old_by_default_and_calls_have_time_to_finish() -> None:
    settings = ServerSettings()
    assert 600 <= settings.max_connection_age_seconds < float("inf")
    assert settings.max_connection_age_grace_seconds > settings.grace_seconds
