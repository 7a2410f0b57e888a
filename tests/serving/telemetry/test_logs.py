"""One line a finished request, with an id that the client has, too, and without any text."""

import json
import logging
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest

from serving.access.tokens import NewToken, issue
from serving.telemetry.logs import HUMAN, HumanFormatter, LossyHandler
from serving.telemetry.tracing import open_tracing
from tests.serving.rpc.health import SERVING, check_health
from tests.serving.rpc.http2 import END_STREAM, HEADERS, RawConnection
from tests.serving.running import PATIENCE, RunningServer, server_process, wait_for
from tests.unroll.client.stub import ask, connected
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import (
    InputError,
    MissingExtraError,
    ServerError,
    SettingsError,
    UnavailableError,
    UnknownModelError,
)
from unroll.options import GenerateOptions, SessionOptions

ACCESS = "serving.access"
ID = "x-request-id"


def calls(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == ACCESS]


def test_core_of_grpc_writes_nothing_that_a_stranger_dictates(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with (
        server_process(tmp_path, "--model", str(tiny_bundles["gru"])) as (process, address),
        RawConnection(address) as raw,
        Client(address) as client,
    ):
        raw.call("/no/such", headers=((b"grpc-timeout", b"nonsense"),))
        assert client.generate("abc").text
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert all(" serving." in line for line in errors.splitlines()), errors


def test_lines_are_json_and_hold_no_text(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    arguments = ("--model", f"tiny={tiny_bundles['gru']}", "--log-format", "json")
    options = GenerateOptions(max_new_symbols=40, seed=1)
    with server_process(tmp_path, *arguments) as (process, address), Client(address) as client:
        text = client.generate("cabbage", options).text
        list(client.stream("abc", options))
        client.score("dad")
        with pytest.raises(InputError) as refused:
            client.generate("abc한")
        with pytest.raises(UnknownModelError):
            client.get_model("nobody")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    ended = [line for line in lines if line["logger"] == ACCESS]
    told = ("method", "code", "model", "symbols_read", "symbols_written")
    assert [tuple(line[name] for name in told) for line in ended] == [
        ("Generate", "OK", "tiny", 7, 40),
        ("StreamGenerate", "OK", "tiny", 3, 40),
        ("Score", "OK", "tiny", 3, 0),
        ("Generate", "INVALID_ARGUMENT", "tiny", 0, 0),
        ("GetModel", "NOT_FOUND", "", 0, 0),
    ]
    assert all(0 < line["seconds"] < PATIENCE for line in ended)
    assert all(line["caller"].startswith("ipv4:127.0.0.1:") for line in ended)
    assert ended[3]["request_id"] == refused.value.request_id != ""
    assert len({line["request_id"] for line in ended}) == 5
    assert not any(word in errors for word in (text, "cabbage", "한", "\\ud55c"))


def test_each_call_about_a_session_names_the_model(
    client: Client, shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, ACCESS)
    session = client.start_session(SessionOptions(model="lstm"))
    session.generate("abc", GenerateOptions(max_new_symbols=5))
    (fork,) = session.fork([1])
    session.rewind(0)
    session.describe()
    fork.end()
    client.get_model("lstm")
    with pytest.raises(InputError):
        client.generate("£", GenerateOptions(model="lstm", max_new_symbols=2**31 - 1))
    wait_for(lambda: len(calls(caplog)) == 8)
    methods = ["StartSession", "Generate", "ForkSession", "RewindSession", "GetSession"]
    methods += ["EndSession", "GetModel", "Generate"]
    lines = [vars(line) for line in calls(caplog)]
    assert [(line["method"], line["model"]) for line in lines] == [(m, "lstm") for m in methods]


def test_level_silences_the_lines(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    arguments = ("--model", str(tiny_bundles["gru"]), "--log-level", "error")
    with server_process(tmp_path, *arguments) as (process, address), Client(address) as client:
        client.generate("abc")
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE)[1] == ""


def test_facts_stand_behind_the_message_of_a_line_for_people() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "call ended"})
    record.code, record.seconds = "OK", 0.25
    line = HumanFormatter(HUMAN).format(record)
    assert line.endswith(" INFO n: call ended code=OK seconds=0.25")


@pytest.mark.parametrize("given", ["trace-7/b.c:9=", "x" * 128])
def test_id_of_the_client_is_kept(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    caplog.set_level(logging.INFO, ACCESS)
    with connected(shared_server.address) as stub:
        answer, call = stub.calls.Generate.with_call(ask("abc", 3), metadata=((ID, given),))
        assert answer.text
        assert dict(call.trailing_metadata())[ID] == given
        wait_for(lambda: len(calls(caplog)) == 1)
    (line,) = calls(caplog)
    assert vars(line)["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", 'quo"te', "{}"])
def test_id_that_could_spoil_a_log_is_replaced(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    caplog.set_level(logging.INFO, ACCESS)
    with connected(shared_server.address) as stub:
        call = stub.calls.StreamGenerate(ask("abc", 3), metadata=((ID, given),))
        made = dict(call.initial_metadata())[ID]
        assert len(made) == 16
        assert list(call)
        wait_for(lambda: len(calls(caplog)) == 1)
    assert vars(calls(caplog)[0])["request_id"] == made


def test_failure_that_should_not_exist_can_be_found_by_its_id(
    client: Client,
    shared_server: RunningServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(name: str) -> None:
        raise RuntimeError(f"no {name}")

    monkeypatch.setattr(shared_server.server.models, "get", fail)
    with pytest.raises(ServerError, match="internal error") as caught:
        client.get_model("x")
    assert f"internal error in call {caught.value.request_id}" in caplog.text


def test_error_that_no_server_told_has_no_id() -> None:
    with Client("127.0.0.1:1") as nobody, pytest.raises(UnavailableError) as caught:
        nobody.generate("abc")
    assert caught.value.request_id == ""


def test_traces_without_the_packages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[otel\]'"):
        open_tracing("http://127.0.0.1:4317")


def test_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"otel_endpoint = 'somewhere'.*--otel-endpoint"):
        open_tracing("somewhere")


def test_token_that_is_not_utf8_reaches_no_log(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    issue(NewToken(name="anna", file=tmp_path / "tokens"))
    arguments = ("--model", str(tiny_bundles["gru"]), "--tokens", str(tmp_path / "tokens"))
    methods = ("unroll.v1.TextGenerationService/ListModels", "grpc.health.v1.Health/Check", "no/No")
    with server_process(tmp_path, *arguments) as (process, address):
        for method in methods:
            with RawConnection(address) as raw:
                raw.call(f"/{method}", headers=((b"authorization", b"Bearer \xffsecret"),))
                raw.read_until(HEADERS, END_STREAM)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    lines = [line for line in errors.splitlines() if "capsule keys" not in line]
    assert [" serving.access: " in line for line in lines] == [True, False], "draining comes last"
    assert "UNAUTHENTICATED" in lines[0]
    assert "secret" not in errors


def test_facts_cannot_break_a_line() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "a\r\nb"})
    record.caller = "c\x1b[2Jd\u2028e"
    line = HumanFormatter(HUMAN).format(record)
    assert line.endswith(" INFO n: a\\r\\nb caller=c\\x1b[2Jd\\u2028e")


@pytest.mark.slow
def test_reader_of_the_log_that_stops_holds_up_nobody(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with server_process(tmp_path, "--model", str(tiny_bundles["gru"])) as (process, address):
        with connected(address) as stub:
            for _ in range(500):  # 150 kB of lines; a pipe that nobody reads takes 64 kB
                stub.calls.Generate(ask("abc", 1), metadata=((ID, "x" * 128),), timeout=PATIENCE)
        with grpc.insecure_channel(address) as channel:
            assert check_health(channel) == SERVING
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_dropped_lines_are_counted_and_told() -> None:
    reader, writer = os.pipe()
    handler = LossyHandler(writer, lines=3)
    for _ in range(100):  # a pipe takes 64 kB, so the first one waits for the reader
        handler.handle(logging.makeLogRecord({"msg": "x" * 100_000}))
    assert 0 < handler.dropped < 100
    kept = 100 - handler.dropped
    told = f"were dropped: who reads it does not keep up lines={handler.dropped}"
    handler.setFormatter(HumanFormatter(HUMAN))
    text = ""
    while told not in text or text.count("x" * 100_000) < kept:
        text += os.read(reader, 65536).decode()
    handler.close()
    os.close(writer)
    assert os.read(reader, 65536) == b""
    os.close(reader)
