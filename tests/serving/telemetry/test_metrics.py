"""The page for Prometheus tells what the server did."""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.rpc import gate
from serving.settings import ServerSettings
from serving.telemetry import page
from tests.needed import promtool
from tests.serving.rpc.health import check_health
from tests.serving.running import ENDLESS, NARROW, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import (
    CancelledError,
    DeadlineError,
    InputError,
    SessionEndedError,
    SessionEvictedError,
    SettingsError,
    StoreError,
    UnknownModelError,
)
from unroll.options import GenerateOptions
from unroll.v1 import text_generation_pb2 as pb

SERVICE_NAME = "TextGenerationService"
LONG = GenerateOptions(max_new_symbols=65536)  # takes seconds
DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "dashboards" / "unroll.json"
PROMPT = "abc bad cab " * 5  # long enough to be kept


@pytest.fixture(autouse=True)
def _patient_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "REQUEST_SECONDS", PATIENCE)


def read_page(server: RunningServer) -> str:
    page = server.server.metrics_page
    assert page is not None
    with urlopen(f"http://127.0.0.1:{page.port}/metrics", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


def counts(server: RunningServer) -> dict[tuple[str, ...], float]:
    """Read the page: samples by name and label values in order, without the fingerprint."""
    text = read_page(server)
    return {
        (sample.name, *(v for k, v in sample.labels.items() if k != "fingerprint")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_sessions_are_counted_by_what_became_of_them(tiny_bundles: dict[Cell, Path]) -> None:
    settings = ServerSettings(
        model=(f"tiny={tiny_bundles['gru']}",), port=0, metrics_port=0, sessions_in_memory=2
    )
    with RunningServer(settings) as server, Client(server.address) as client:
        first, second, third = (client.start_session() for _ in range(3))
        with pytest.raises(SessionEvictedError):
            first.describe()
        third.end()
        with pytest.raises(SessionEndedError):
            third.describe()
        second.describe()
        seen = counts(server)
    assert seen["unroll_sessions_gone_total", "evicted"] == 1
    assert seen["unroll_sessions_gone_total", "ended"] == 1
    assert seen["unroll_sessions_gone_total", "expired"] == 0
    assert seen["unroll_sessions_in_memory",] == 1


def test_spilled_and_loaded_sessions_are_counted(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    settings = ServerSettings(
        model=(f"tiny={tiny_bundles['gru']}",),
        port=0,
        metrics_port=0,
        sessions_in_memory=1,
        state_dir=tmp_path,
    )
    with RunningServer(settings) as server, Client(server.address) as client:
        first, _ = client.start_session(), client.start_session()
        first.describe()
        seen = counts(server)
    assert seen["unroll_sessions_spilled_total",] == 2
    assert seen["unroll_sessions_loaded_total",] == 1
    assert seen["unroll_sessions_failing",] == 0


def test_page_comes_while_the_sessions_cannot_be_read_or_written(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    damaged = serve(str(tiny_bundles["gru"]), metrics_port=0, state_dir=tmp_path)
    with damaged as server, server.client() as client:
        client.start_session()
        for path in tmp_path.glob("sessions.sqlite3*"):
            path.write_bytes(b"\xff" * path.stat().st_size)
        with pytest.raises(StoreError):
            client.start_session()
        seen = counts(server)
    assert seen["unroll_sessions_failing",] == 1
    assert ("unroll_sessions_stored",) not in seen


def test_prefix_lookups_are_counted_by_outcome(tiny_bundles: dict[Cell, Path]) -> None:
    settings = ServerSettings(model=(f"tiny={tiny_bundles['lstm']}",), port=0, metrics_port=0)
    options = GenerateOptions(max_new_symbols=3)
    with RunningServer(settings) as server, Client(server.address) as client:
        for _ in range(3):
            client.generate(PROMPT, options)
        client.start_session().generate(PROMPT, options)  # a new session reads from the start, too
        seen = counts(server)
    assert seen["unroll_prefix_lookups_total", "tiny", "miss"] == 1
    assert seen["unroll_prefix_lookups_total", "tiny", "hit"] == 3
    assert seen["unroll_prefix_entries", "tiny"] == 1


def test_taken_metrics_port_is_an_error(tiny_bundles: dict[Cell, Path]) -> None:
    settings = ServerSettings(model=(f"tiny={tiny_bundles['gru']}",), port=0, metrics_port=0)
    with RunningServer(settings) as server:
        page = server.server.metrics_page
        assert page is not None
        taken = ServerSettings(model=settings.model, port=0, metrics_port=page.port)
        with pytest.raises(SettingsError, match="--metrics-port"), RunningServer(taken):
            pass


def test_calls_are_counted_by_method_and_code(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), metrics_port=0, buffer_symbols=64) as server,
        server.client() as client,
        grpc.insecure_channel(server.address, options=NARROW) as narrow,
    ):
        client.generate("abc")
        with pytest.raises(InputError):
            client.generate("abc", GenerateOptions(stop=("a",) * 9))
        with pytest.raises(UnknownModelError):
            client.get_model("nobody")
        with monkeypatch.context() as patch:
            patch.setattr(gate, "deadline_of", lambda context: time.monotonic() + 0.05)
            with pytest.raises(DeadlineError):
                client.generate("abc", GenerateOptions(max_new_symbols=ENDLESS))
        with Client(channel=narrow) as slow:
            left = slow.stream("abc", LONG)
            next(left)
            wait_for(lambda: counts(server)["unroll_requests_running", "StreamGenerate"] == 1)
            left.close()
        with grpc.insecure_channel(server.address) as other:
            check_health(other)  # is not counted
        wait_for(lambda: counts(server)["unroll_requests_running", "StreamGenerate"] == 0)
        wait_for(lambda: counts(server)["unroll_requests_running", "Generate"] == 0)
        seen = counts(server)
    ended = {key[1:]: n for key, n in seen.items() if key[0] == "unroll_requests_total" and n}
    assert ended == {
        ("OK", "Generate"): 1,
        ("INVALID_ARGUMENT", "Generate"): 1,
        ("DEADLINE_EXCEEDED", "Generate"): 1,
        ("NOT_FOUND", "GetModel"): 1,
        ("CANCELLED", "StreamGenerate"): 1,
    }
    assert seen["unroll_request_seconds_count", "Generate"] == 3


def test_every_series_is_there_before_anything_has_happened(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with serve(str(tiny_bundles["gru"]), metrics_port=0) as server:
        seen = counts(server)
    methods = [method.name for method in pb.DESCRIPTOR.services_by_name[SERVICE_NAME].methods]
    for method in methods:
        assert seen["unroll_requests_running", method] == 0
        assert seen["unroll_request_seconds_count", method] == 0
        for code in ("OK", "INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED", "UNAVAILABLE"):
            assert seen["unroll_requests_total", code, method] == 0
    for kind in ("read", "written"):
        assert seen["unroll_symbols_total", kind, "gru"] == 0
    for outcome in ("hit", "miss"):
        assert seen["unroll_prefix_lookups_total", "gru", outcome] == 0
    assert not [key for key in seen if key[0].endswith("_created")]


def test_symbols_batches_and_phases_are_counted(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(
            str(tiny_bundles["lstm"]), metrics_port=0, messages_per_second=1e9, slots=5
        ) as server,
        server.client() as client,
    ):
        pieces = list(client.stream("abc", GenerateOptions(max_new_symbols=500)))
        client.generate("abcd", GenerateOptions(max_new_symbols=70))
        client.score("abc" * 100)
        seen = counts(server)
    assert seen["unroll_symbols_total", "read", "lstm"] == 3 + 4 + 300
    assert seen["unroll_symbols_total", "written", "lstm"] == 500 + 70
    calls = seen["unroll_loop_seconds_count", "lstm"]
    assert seen["unroll_loop_steps_count", "lstm"] == seen["unroll_batch_rows_count", "lstm"]
    assert seen["unroll_batch_rows_sum", "lstm"] == calls  # one row each
    assert seen["unroll_loop_steps_sum", "lstm"] == 307 + 570
    assert 0 < seen["unroll_loop_seconds_sum", "lstm"] < PATIENCE
    phases = ("queue", "prefill", "first_symbol", "decode")
    assert [seen[f"unroll_{name}_seconds_count", "lstm"] for name in phases] == [3, 3, 2, 2]
    # The client may find two chunks in one message.
    assert len(pieces) - 1 <= seen["unroll_chunk_gap_seconds_count", "lstm"] <= calls
    assert (seen["unroll_slots", "lstm"], seen["unroll_slots_taken", "lstm"]) == (5, 0)
    assert seen["unroll_workers", "lstm"] == 1


@pytest.mark.slow
def test_queue_and_stalled_requests_are_seen(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(str(tiny_bundles["gru"]), metrics_port=0, slots=1, buffer_symbols=16) as server,
        grpc.insecure_channel(server.address, options=NARROW) as narrow,
        ThreadPoolExecutor(2) as pool,
        server.client() as client,
    ):
        stalled = Client(channel=narrow).stream("abc", LONG)
        next(stalled)
        wait_for(lambda: counts(server)["unroll_requests_stalled", "gru"] == 1)
        asked = GenerateOptions(max_new_symbols=ENDLESS)
        running = [pool.submit(client.generate, "abc", asked) for _ in range(2)]
        wait_for(lambda: are_all_somewhere(counts(server)))
        client.close()
        assert [type(future.exception(PATIENCE)) for future in running] == [CancelledError] * 2
        stalled.close()


def are_all_somewhere(page: dict[tuple[str, ...], float]) -> bool:
    """Whether one of three runs; the first waits, too, if its buffer had room again."""
    names = ("slots_taken", "queue_length", "requests_stalled")
    running, waiting, stalled = (page[f"unroll_{name}", "gru"] for name in names)
    return running == 1 and waiting >= 1 and waiting + stalled == 2


@pytest.fixture(scope="module")
def worked(
    tiny_bundles: dict[Cell, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that has done a little of everything."""
    folder = tmp_path_factory.mktemp("state")
    with (
        serve(str(tiny_bundles["gru"]), metrics_port=0, state_dir=folder) as server,
        server.client() as client,
    ):
        client.start_session().generate("abc")
        list(client.stream("abc"))
        yield server


def test_page_is_one_that_prometheus_likes(worked: RunningServer) -> None:
    linted = subprocess.run(
        [promtool(), "check", "metrics"],
        input=read_page(worked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


def test_dashboard_shows_nothing_that_is_not_on_the_page(worked: RunningServer) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 15
    named = {name for query in queries for name in re.findall(r"\b(?:unroll|process)_\w+", query)}
    families = text_string_to_metric_families(read_page(worked))
    served = {sample.name for family in families for sample in family.samples}
    assert named - served == set()


@pytest.mark.slow
@pytest.mark.parametrize("is_silent", [True, False])
def test_connections_that_ask_nothing_or_never_end_hold_few_threads_and_are_closed(
    tiny_bundles: dict[Cell, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    is_silent: bool,
) -> None:
    with (
        monkeypatch.context() as impatient,
        serve(str(tiny_bundles["gru"]), metrics_port=0) as running,
    ):
        impatient.setattr(page, "REQUEST_SECONDS", 0.3)
        port = running.server.metrics_page.port  # type: ignore[union-attr]
        before = threading.active_count()
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        wait_for(lambda: threading.active_count() > before)
        assert threading.active_count() <= before + 2 * page.READERS_AT_ONCE  # with their clocks
        for connection in silent:
            assert has_been_hung_up_on(connection, b"" if is_silent else b"G")
            connection.close()
        impatient.undo()
        assert "unroll_slots" in read_page(running)
    assert "Traceback" not in capfd.readouterr().err


def has_been_hung_up_on(connection: socket.socket, dribble: bytes) -> bool:
    """Wait for the server to hang up, with a few bytes now and then."""
    connection.settimeout(0.05)
    for _ in range(round(PATIENCE / 0.05)):
        try:
            connection.sendall(dribble)
            return connection.recv(1) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False
