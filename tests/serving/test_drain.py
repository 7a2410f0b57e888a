"""Signals end the server in good order; real processes."""

import logging
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import grpc
import pytest

from serving.sessions.capsule import KEYS_VARIABLE
from tests.serving.rpc.health import NOT_SERVING, SERVING, Watch, check_health
from tests.serving.running import ENDLESS, NARROW, PATIENCE, serve, server_process, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.client.faces.session import Session
from unroll.errors import ClosedError, PositionError, SessionBusyError
from unroll.options import GenerateOptions, SessionOptions
from unroll.results import Generation
from unroll.terms import Capsules, FinishReason

pytestmark = pytest.mark.slow

LONG = GenerateOptions(max_new_symbols=ENDLESS, seed=3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_exits_0(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, number: signal.Signals
) -> None:
    asked = GenerateOptions(max_new_symbols=20_000, seed=11)
    with server_process(tmp_path, "--model", str(tiny_bundles["gru"])) as (process, address):
        narrow = grpc.insecure_channel(address, options=NARROW)  # the text waits for its reader
        with grpc.insecure_channel(address) as channel, Client(channel=narrow) as client:
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
        assert "CPUExecutionProvider, onnx kernels\n" in output


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


@contextmanager
def cut_soon(tmp_path: Path, bundle: Path) -> Iterator[tuple["Popen[str]", str]]:
    """Run a server that has sessions on disk and leaves streams little time."""
    settings = {
        "model": bundle,
        "grace-seconds": 0.02,
        "state-dir": tmp_path / "state",
        "max-new-symbols": ENDLESS,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    (tmp_path / "port").unlink(missing_ok=True)
    with server_process(tmp_path, *flags) as started:
        yield started


@pytest.mark.parametrize("stop", [(), ("a£a£a£h", "hhhhhhhc")], ids=["plain", "stop"])
def test_stream_that_the_grace_time_cuts_ends_with_a_capsule_and_goes_on(
    tiny_bundles: dict[Cell, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: tuple[str, ...],
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    asked = replace(LONG, stop=stop, log_probs=True)
    with (
        cut_soon(tmp_path, tiny_bundles["gru"]) as (process, address),
        Client(address) as client,
    ):
        stream = client.stream("abc", asked, timeout=PATIENCE)
        begun = [next(stream)]
        process.send_signal(signal.SIGTERM)
        begun += stream
        assert process.wait(PATIENCE) == 0
    last = begun[-1]
    assert last.completion is not None
    assert last.completion.finish_reason is FinishReason.SHUTDOWN
    received = "".join(piece.text for piece in begun)
    assert 0 < len(received) < ENDLESS
    with serve(str(tiny_bundles["gru"])) as other, other.client() as client:
        rest = replace(asked, max_new_symbols=40)
        more = client.generate("", rest, capsule=last.capsule)
        whole = client.generate("abc", replace(asked, max_new_symbols=len(received) + 40))
    assert received + more.text == whole.text
    log_probs = [value for piece in begun for value in piece.log_probs]
    assert (*log_probs, *more.log_probs) == whole.log_probs


def test_resumed_stream_survives_a_drain_without_anybody_noticing(
    tiny_bundles: dict[Cell, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "unroll.client.remote.resume")
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    asked = replace(LONG, max_new_symbols=60_000)
    with (
        cut_soon(tmp_path, tiny_bundles["gru"]) as (process, address),
        serve(str(tiny_bundles["gru"])) as other,
        Client([address, other.address]) as client,
        other.client() as alone,
    ):
        pieces = client.stream("abc", asked, resume=True, timeout=6 * PATIENCE)
        received = [next(pieces)]
        process.send_signal(signal.SIGTERM)
        received += pieces
        assert process.wait(PATIENCE) == 0
        assert "the server shut down and cut the stream off" in caplog.text
        completion = received[-1].completion
        assert completion is not None
        assert [piece for piece in received if piece.completion is not None] == received[-1:]
        assert completion.usage.generated_symbols == 60_000
        assert "".join(piece.text for piece in received) == alone.generate("abc", asked).text


def test_session_stands_where_the_cut_stream_stopped(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    bundle = tiny_bundles["lstm"]
    with cut_soon(tmp_path, bundle) as (process, address), Client(address) as client:
        session = client.start_session(SessionOptions(seed=3))
        never = replace(LONG, seed=None, capsules=Capsules.NEVER)
        stream = session.stream("abc", never, timeout=PATIENCE)
        received = next(stream).text
        process.send_signal(signal.SIGTERM)
        pieces = list(stream)
        received += "".join(piece.text for piece in pieces)
        assert pieces[-1].capsule == b""
        assert process.wait(PATIENCE) == 0
    with cut_soon(tmp_path, bundle) as (_, address), Client(address) as client:
        again = client.get_session(session.session_id)
        assert again.position == session.position == 3 + len(received)
        with pytest.raises(PositionError):  # the same request again would be longer
            client.generate("abc", never, session=session.session_id, expected_position=0)
        more = again.generate("", GenerateOptions(max_new_symbols=40)).text
        whole = GenerateOptions(max_new_symbols=len(received) + 40, seed=3)
        assert received + more == client.generate("abc", whole).text


def test_whole_answers_and_unread_prompts_are_refused_at_the_grace_time(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with (
        cut_soon(tmp_path, tiny_bundles["gru"]) as (process, address),
        Client(address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        session = client.start_session()
        answer = pool.submit(generate_when_free, session, LONG)
        wait_for(lambda: is_busy(client, session.session_id))
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ClosedError, match="shutting down"):
            answer.result(PATIENCE)
        assert process.wait(PATIENCE) == 0
    with cut_soon(tmp_path, tiny_bundles["gru"]) as (_, address), Client(address) as client:
        assert client.get_session(session.session_id).position == 0


def generate_when_free(session: Session, asked: GenerateOptions) -> Generation:
    """Continue a session that `is_busy` may hold for the moment of its question."""
    while True:
        with suppress(SessionBusyError):
            return session.generate("abc", asked)


def is_busy(client: Client, session_id: str) -> bool:
    try:
        client.generate("a", session=session_id, expected_position=99)
    except SessionBusyError:
        return True
    except PositionError:
        return False
    raise AssertionError
