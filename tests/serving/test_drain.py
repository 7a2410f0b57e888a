"""Signals end the server in good order; real processes."""

import signal
import time
from pathlib import Path

import grpc
import pytest

from serving.client.blocking import Client
from serving.client.options import GenerateOptions
from serving.errors import (
    ClosedError,
)
from tests.serving.health import NOT_SERVING, SERVING, Watch, check_health
from tests.serving.running import NARROW, PATIENCE, server_process, wait_for
from training.settings import Cell

LONG = GenerateOptions(max_new_symbols=65536, seed=3)  # takes seconds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_exits_0(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, number: signal.Signals
) -> None:
    asked = GenerateOptions(max_new_symbols=20_000, seed=11)
    with server_process(tmp_path, "--model", str(tiny_bundles["gru"])) as (process, address):
        with grpc.insecure_channel(address) as channel, Client(address) as client:
            watch = Watch(channel)
            wait_for(lambda: watch.seen == [SERVING])
            stream = client.stream("abc", asked)
            text = next(stream).text
            process.send_signal(number)
            wait_for(lambda: watch.seen == [SERVING, NOT_SERVING])
            assert check_health(channel) == NOT_SERVING
            with pytest.raises(ClosedError, match="shutting down"):
                client.generate("abc")
            assert process.poll() is None, "the stream must still run, else this tests nothing"
            text += "".join(piece.text for piece in stream)
            assert len(text) == 20_000
            output, errors = process.communicate(timeout=PATIENCE)
            wait_for(lambda: watch.code is grpc.StatusCode.OK)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert "listening on 127.0.0.1:" in output


def test_slow_reader_gets_its_whole_text_while_the_server_drains(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    asked = GenerateOptions(max_new_symbols=4000, log_probs=True)
    with server_process(tmp_path, "--model", str(tiny_bundles["gru"])) as (process, address):
        channel = grpc.insecure_channel(address, options=NARROW)
        with Client(channel=channel) as client:
            stream = client.stream("abc", asked, timeout=PATIENCE)
            text = next(stream).text
            time.sleep(0.5)  # the engine has long finished; the text waits for its reader
            process.send_signal(signal.SIGTERM)
            time.sleep(1.0)
            assert process.poll() is None
            text += "".join(piece.text for piece in stream)
        assert len(text) == 4000
        assert process.wait(PATIENCE) == 0


def test_drain_ends_at_the_grace_time(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    arguments = ("--model", str(tiny_bundles["gru"]), "--grace-seconds", "0.2")
    with server_process(tmp_path, *arguments) as (process, address), Client(address) as client:
        stream = client.stream("abc", LONG)
        next(stream)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ClosedError, match="shutting down"):
            list(stream)
        assert process.wait(PATIENCE) == 0
