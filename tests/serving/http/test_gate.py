"""The HTTP door has the gate of gRPC: callers, limits, ids, deadlines, counts, drain."""

import asyncio
import json
import logging
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving.access.tokens import NewToken, issue
from serving.http import connection, door
from tests.serving.access.certificates import Authority, Pair
from tests.serving.http.asking import LONG, SERVICE, RawRequest, ask, call
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, server_process, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.client.remote.security import Security
from unroll.errors import CallerBusyError, SettingsError
from unroll.options import GenerateOptions

SHORT = {"prompt": "abc", "maxNewSymbols": 5, "seed": 3}


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", http_port=0) as running:
        yield running


def envelope(body: dict[str, object]) -> bytes:
    data = json.dumps(body).encode()
    return struct.pack(">BI", 0, len(data)) + data


STREAM = {"content-type": "application/connect+json"}


def count(running: RunningServer, method: str, code: str) -> float | None:
    labels = {"method": SERVICE + method, "code": code}
    return running.server.doors.calls.registry.get_sample_value("unroll_requests_total", labels)


def test_probes_need_no_token_and_all_else_does(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=file))
    right = {"authorization": f"Bearer {token}"}
    with serve(str(tiny_bundles["gru"]), tokens=file, http_port=0) as running:
        assert [ask(running, "GET", path).status for path in ("/livez", "/readyz")] == [200, 200]
        refused = call(running, "Generate", SHORT)
        assert (refused.status, refused.reason) == (401, "UNAUTHENTICATED")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert ask(running, "GET", "/version").status == 401
        wrong = {"authorization": f"Bearer {token}x"}
        assert call(running, "Generate", SHORT, headers=wrong).status == 401
        assert call(running, "Generate", SHORT, headers=right).status == 200
        session = call(running, "StartSession", {}, headers=right).json["session"]["id"]
        with Client(running.address, security=Security(token=token)) as same:
            assert same.get_session(session).position == 0


def test_stranger_is_refused_before_its_message_has_come(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    issue(NewToken(name="anna", file=file))
    with (
        serve(str(tiny_bundles["gru"]), tokens=file, http_port=0) as running,
        RawRequest(running, f"{SERVICE}Generate", b"", {"content-length": "1000"}) as stranger,
    ):
        assert stranger.read().startswith(b"HTTP/1.1 401 ")


def test_calls_of_one_address_count_at_all_doors(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_calls_per_caller=1, http_port=0) as running,
        running.client() as client,
    ):
        stream = client.stream("abc", GenerateOptions(max_new_symbols=ENDLESS))
        next(stream)
        refused = call(running, "Generate", SHORT)
        assert (refused.status, refused.reason) == (429, "CALLER_BUSY")
        assert int(refused.headers["retry-after"]) >= 1
        stream.close()
        wait_for(lambda: not running.server.doors.gate.running)
        with RawRequest(running, f"{SERVICE}Generate", LONG):
            wait_for(lambda: len(running.sequences()) == 1)
            with pytest.raises(CallerBusyError):
                client.generate("abc", timeout=PATIENCE)
            assert ask(running, "GET", "/readyz").status == 200


@pytest.mark.parametrize(
    ("method", "body", "headers"),
    [
        ("Generate", json.dumps(LONG).encode(), {}),
        ("StreamGenerate", envelope(LONG), STREAM),
    ],
)
def test_client_that_goes_frees_its_slot(
    server: RunningServer, method: str, body: bytes, headers: dict[str, str]
) -> None:
    before = count(server, method, "CANCELLED") or 0
    with RawRequest(server, SERVICE + method, body, headers) as request:
        wait_for(lambda: len(server.sequences()) == 1)
        (sequence,) = server.sequences()
        if headers:
            assert request.read().startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: not server.sequences())
    assert sequence.generated < LONG["maxNewSymbols"]
    wait_for(lambda: count(server, method, "CANCELLED") == before + 1)


@pytest.mark.parametrize("at_once", [True, False])
def test_request_beside_a_running_one_is_not_read_and_hides_no_hanging_up(
    server: RunningServer, at_once: bool
) -> None:
    second = f"POST {SERVICE}Generate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    length = {"content-length": str(len(json.dumps(LONG)))}
    first = json.dumps(LONG).encode() + (second if at_once else b"")
    with RawRequest(server, f"{SERVICE}Generate", first, length) as request:
        wait_for(lambda: len(server.sequences()) == 1)
        (sequence,) = server.sequences()
        if not at_once:
            request.send(second)
    wait_for(lambda: not server.sequences())
    assert sequence.generated < LONG["maxNewSymbols"]
    short = json.dumps(SHORT).encode()
    length = {"content-length": str(len(short))}
    with RawRequest(server, f"{SERVICE}Generate", short + second, length) as request:
        answers = request.read_all()
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert b'"text"' in answers


def test_reader_that_stops_reading_stops_its_text_and_is_cut_at_its_deadline(
    server: RunningServer,
) -> None:
    headers = STREAM | {"connect-timeout-ms": "1000"}
    before = count(server, "StreamGenerate", "DEADLINE_EXCEEDED") or 0
    request = envelope(LONG | {"logProbs": True})
    with RawRequest(server, f"{SERVICE}StreamGenerate", request, headers) as deaf:
        deaf.read(1)
        wait_for(lambda: count(server, "StreamGenerate", "DEADLINE_EXCEEDED") == before + 1)
    wait_for(lambda: not server.sequences())


@pytest.mark.slow
def test_whole_answer_counts_as_its_callers_until_it_is_taken(server: RunningServer) -> None:
    body = LONG | {"maxNewSymbols": 65536, "sampleCount": 4, "logProbs": True}
    with RawRequest(server, f"{SERVICE}Generate", json.dumps(body).encode()) as slow:
        assert slow.read(1) == b"H"
        assert ask(server, "GET", "/livez").status == 200, "all that can be sent is sent"
        assert not server.sequences()
        wait_for(lambda: len(server.server.doors.gate.running) == 1)
        while server.server.doors.gate.running:
            slow.read(65536)
    assert count(server, "Generate", "OK")


def test_deadline_ends_a_call(server: RunningServer) -> None:
    late = call(server, "Generate", LONG, headers={"connect-timeout-ms": "50"})
    assert (late.status, late.reason) == (504, "DEADLINE")
    wrong = call(server, "Generate", SHORT, headers={"connect-timeout-ms": "1.5"})
    assert (wrong.status, wrong.reason) == (400, "INVALID_FIELD")


def test_call_has_an_id_a_line_and_a_count(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.access")
    before = count(server, "Generate", "OK") or 0
    answer = call(server, "Generate", SHORT, headers={"x-request-id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
    wait_for(lambda: count(server, "Generate", "OK") == before + 1)
    mine = [each.__dict__ for each in caplog.records if each.__dict__["request_id"] == "mine-7"]
    (told,) = mine
    assert (told["method"], told["code"], told["model"]) == (f"{SERVICE}Generate", "OK", "small")
    assert (told["symbols_read"], told["symbols_written"]) == (3, 5)
    assert told["caller"].startswith("ipv4:127.0.0.1:")


def test_message_that_is_too_large_is_refused(tiny_bundles: dict[Cell, Path]) -> None:
    with serve(str(tiny_bundles["gru"]), max_message_bytes=4096, http_port=0) as running:
        refused = call(running, "Score", {"text": "a" * 5000})
        assert (refused.status, refused.reason) == (400, "INVALID_FIELD")
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (5000, b"a" * 5000)
        address = urlsplit(running.server.http_address)
        with socket.create_connection((address.hostname, address.port), PATIENCE) as raw:
            head = f"POST {SERVICE}Score HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            raw.sendall(head.encode() + chunked)
            assert raw.recv(100).startswith(b"HTTP/1.1 400 ")


def test_body_that_would_take_long_to_parse_is_refused(server: RunningServer) -> None:
    """The limits are those of gRPC's messages; a text of the most symbols fits, however written."""
    longest = 65536
    text = {"prompt": "\\ud83d\\ude00" * longest, "max_tokens": 1}
    written = json.dumps(text).replace("\\\\", "\\").encode()
    told = ask(server, "POST", "/v1/completions", written).json["error"]
    assert told["code"] == "unknown_symbol", "it was read"
    huge = ask(server, "POST", "/v1/completions", {"prompt": [[1] * longest] * 30})
    assert (huge.status, huge.json["error"]["param"]) == (400, "request")


def test_endless_head_and_silent_connection_are_ended(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = urlsplit(server.server.http_address)
    with socket.create_connection((address.hostname, address.port), PATIENCE) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\n" + b"x-a: " + b"a" * 100_000)
        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.1)
    with socket.create_connection((address.hostname, address.port), PATIENCE) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\n")
        assert raw.recv(100) == b""
    with socket.create_connection((address.hostname, address.port), PATIENCE) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HTTP/1.1\r\n")
        while b"ok" not in (answer := raw.recv(1000)):
            assert answer
        assert raw.recv(100) == b""


def test_one_connection_too_many_is_closed(tiny_bundles: dict[Cell, Path]) -> None:
    with serve(str(tiny_bundles["gru"]), max_connections=1, http_port=0) as running:
        address = urlsplit(running.server.http_address)
        where = address.hostname, address.port
        with socket.create_connection(where, PATIENCE) as first:
            first.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert first.recv(100).startswith(b"HTTP/1.1 200 ")
            with socket.create_connection(where, PATIENCE) as second:
                assert hung_up(second)


def hung_up(connected: socket.socket) -> bool:
    try:
        return connected.recv(100) == b""
    except ConnectionResetError:
        return True


def test_pages_of_other_origins_may_ask_only_if_they_are_named(
    tiny_bundles: dict[Cell, Path], server: RunningServer
) -> None:
    own = server.server.http_address
    page, other = "https://page.example", "https://other.example"
    answers = {
        origin: call(server, "ListModels", {}, headers={"origin": origin}) for origin in (own, page)
    }
    assert [answers[own].status, answers[page].status] == [200, 403]
    with serve(str(tiny_bundles["gru"]), http_port=0, http_allow_origin=(page,)) as running:
        allowed = call(running, "ListModels", {}, headers={"origin": page})
        assert allowed.headers["access-control-allow-origin"] == page
        asked = {"origin": page, "access-control-request-method": "POST"}
        assert ask(running, "OPTIONS", f"{SERVICE}ListModels", headers=asked).status == 200
        assert call(running, "ListModels", {}, headers={"origin": other}).status == 403


def test_drain_is_told_to_balancers_and_lets_running_calls_end(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with serve(str(tiny_bundles["gru"]), http_port=0) as running:
        body = envelope(LONG | {"maxNewSymbols": 20_000})
        with RawRequest(running, f"{SERVICE}StreamGenerate", body, STREAM) as request:
            wait_for(lambda: len(running.sequences()) == 1)
            stopping = asyncio.run_coroutine_threadsafe(running.server.stop(PATIENCE), running.loop)
            wait_for(lambda: ask(running, "GET", "/readyz").status == 503)
            assert ask(running, "GET", "/livez").status == 200
            refused = call(running, "Generate", SHORT)
            assert (refused.status, refused.reason) == (503, "CLOSED")
            whole = request.read_all()
            stopping.result(PATIENCE)
        assert b"FINISH_REASON_LENGTH" in whole
        assert whole.endswith(b"0\r\n\r\n")
        with pytest.raises(ConnectionRefusedError):
            ask(running, "GET", "/livez")


@pytest.fixture
def _long_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, one takes longer than a server waits for a stranger."""
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", PATIENCE)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


@pytest.mark.usefixtures("_long_handshakes")
def test_certificate_makes_one_caller_at_both_doors(
    tiny_bundles: dict[Cell, Path], authority: Authority
) -> None:
    own = authority.issue("127.0.0.1")
    hers = authority.issue("Anna.example", "anna@example.org", "::1")
    his = authority.issue("bert.example")
    with serve(
        str(tiny_bundles["gru"]),
        tls_certificate=own.certificate,
        tls_key=own.key,
        tls_client_ca=authority.file,
        http_port=0,
    ) as running:
        anna, bert = trusting(authority, hers), trusting(authority, his)
        session = call(running, "StartSession", {}, tls=anna).json["session"]["id"]
        assert call(running, "GetSession", {"session": session}, tls=bert).status == 404
        security = Security(ca=authority.file, certificate=hers.certificate, key=hers.key)
        with Client(running.address, security=security) as client:
            assert client.get_session(session).position == 0
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(running, "GET", "/livez", tls=trusting(authority))


@pytest.mark.usefixtures("_long_handshakes")
def test_new_certificate_is_used_without_a_restart(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    first, second = old.issue("127.0.0.1"), new.issue("127.0.0.1")
    with serve(
        str(tiny_bundles["gru"]), tls_certificate=first.certificate, tls_key=first.key, http_port=0
    ) as running:
        assert ask(running, "GET", "/livez", tls=trusting(old)).status == 200
        second.certificate.replace(first.certificate)
        assert ask(running, "GET", "/livez", tls=trusting(old)).status == 200  # half of a pair
        second.key.replace(first.key)
        assert ask(running, "GET", "/livez", tls=trusting(new)).status == 200
        with pytest.raises(ssl.SSLError):
            ask(running, "GET", "/livez", tls=trusting(old))


def test_port_that_is_taken_is_told(tiny_bundles: dict[Cell, Path], server: RunningServer) -> None:
    port = urlsplit(server.server.http_address).port
    with (
        pytest.raises(SettingsError, match=f"http_port = {port}"),
        serve(str(tiny_bundles["gru"]), http_port=port),
    ):
        pass


def test_start_line_tells_the_address_and_a_signal_drains(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    arguments = ("--model", str(tiny_bundles["gru"]), "--http-port", "0")
    with server_process(tmp_path, *arguments) as (process, _):
        process.terminate()
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "and http://127.0.0.1:" in output
