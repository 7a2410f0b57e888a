"""Health: of the server, of each model, and told to all whatever one of them does."""

import logging
import shutil
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import server
from serving.rpc.health import SESSIONS, name_of
from serving.runtime.decoder import LoopResult, LoopRun, State
from tests.serving.rpc.health import NOT_SERVING, SERVING, Watch, check_health
from tests.serving.rpc.http2 import HEADERS, RawConnection
from tests.serving.running import PATIENCE, RunningServer, serve, server_process, wait_for
from training.settings import Cell
from unroll.errors import ClosedError, EngineFailedError, StoreError
from unroll.options import GenerateOptions
from unroll.wire import SERVICE

WATCH = "/grpc.health.v1.Health/Watch"
ASKED = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()


def fail(run: LoopRun, state: State) -> LoopResult:
    raise MemoryError(f"no room for {len(run.tokens)} rows")


def listed(channel: grpc.Channel) -> dict[str, int]:
    request = health_pb2.HealthListRequest()
    answer = health_pb2_grpc.HealthStub(channel).List(request, timeout=PATIENCE)
    return {name: response.status for name, response in answer.statuses.items()}


def test_list_tells_the_server_the_service_and_each_model(shared_server: RunningServer) -> None:
    with grpc.insecure_channel(shared_server.address) as channel:
        names = ["", SERVICE, SESSIONS, f"{SERVICE}/small", f"{SERVICE}/lstm"]
        assert listed(channel) == dict.fromkeys(names, SERVING)
        assert [check_health(channel, name) for name in names] == [SERVING] * 5


def test_name_without_a_health_is_not_found_and_no_fault_of_the_server(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with grpc.insecure_channel(shared_server.address) as channel:
        for name in ("small", name_of("nobody"), "unroll.v1.Other"):
            with pytest.raises(grpc.RpcError) as caught:
                check_health(channel, name)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_failed_model_is_told_by_name_and_the_server_as_a_whole(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = serve(f"broken={tiny_bundles['gru']}", f"sound={tiny_bundles['lstm']}")
    with both as running, grpc.insecure_channel(running.address) as channel:
        monkeypatch.setattr(running.server.models.get("broken").engine.decoder, "run", fail)
        with running.client() as client:
            with pytest.raises((ClosedError, EngineFailedError)):
                client.generate("abc", timeout=PATIENCE)
            assert client.generate("abc", GenerateOptions(model="sound")).text
        wait_for(lambda: check_health(channel) == NOT_SERVING)
        assert listed(channel) == {
            "": NOT_SERVING,
            SERVICE: NOT_SERVING,
            SESSIONS: NOT_SERVING,
            name_of("broken"): NOT_SERVING,
            name_of("sound"): SERVING,
        }


def test_sessions_that_cannot_be_written_are_told_alone_and_recover(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TIDY_SECONDS", 0.05)  # nobody calls; the server finds out itself
    state, away = tmp_path / "state", tmp_path / "away"
    with (
        serve(str(tiny_bundles["gru"]), state_dir=state, session_idle_seconds=0) as running,
        grpc.insecure_channel(running.address) as channel,
        running.client() as client,
    ):
        session = client.start_session()
        watch = Watch(channel, SESSIONS)
        wait_for(lambda: watch.seen == [SERVING])
        state.rename(away)
        wait_for(lambda: watch.seen == [SERVING, NOT_SERVING])
        shutil.copytree(away, state)  # equal, but not what the server has open
        with pytest.raises(StoreError):
            session.generate("abc", GenerateOptions(max_new_symbols=3), timeout=PATIENCE)
        assert client.generate("abc", timeout=PATIENCE).text
        assert check_health(channel) == SERVING
        assert watch.seen == [SERVING, NOT_SERVING]
        shutil.rmtree(state)
        away.rename(state)
        wait_for(lambda: watch.seen == [SERVING, NOT_SERVING, SERVING])
        assert session.generate("abc", GenerateOptions(max_new_symbols=3)).text


@pytest.mark.slow
def test_watch_that_reads_nothing_holds_up_neither_news_nor_the_end(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    arguments = ("--model", str(tiny_bundles["gru"]), "--grace-seconds", "0.5")
    with (
        server_process(tmp_path, *arguments) as (process, address),
        RawConnection(address, window=0) as deaf,
        grpc.insecure_channel(address) as channel,
    ):
        deaf.call(WATCH, ASKED)
        deaf.read_until(HEADERS)  # the watch has begun, and its first news waits for room
        watch = Watch(channel)
        wait_for(lambda: watch.seen == [SERVING])
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: watch.seen == [SERVING, NOT_SERVING])
        _, errors = process.communicate(timeout=PATIENCE)
        wait_for(lambda: watch.code is grpc.StatusCode.OK)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_watch_that_reads_nothing_does_not_hide_a_failed_engine(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve(str(tiny_bundles["gru"])) as running,
        RawConnection(running.address, window=0) as deaf,
        grpc.insecure_channel(running.address) as channel,
        running.client() as client,
    ):
        deaf.call(WATCH, ASKED)
        deaf.read_until(HEADERS)
        watch = Watch(channel)
        wait_for(lambda: watch.seen == [SERVING])
        monkeypatch.setattr(running.server.models.get("").engine.decoder, "run", fail)
        with pytest.raises((ClosedError, EngineFailedError)):
            client.generate("abc", timeout=PATIENCE)
        wait_for(lambda: watch.seen == [SERVING, NOT_SERVING])


def test_watches_leave_the_probes_their_allowance(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_calls_per_caller=3) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        watches = [Watch(channel) for _ in range(5)]
        wait_for(lambda: sum(watch.seen == [SERVING] for watch in watches) == 3)
        refused = grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_for(lambda: sum(watch.code is refused for watch in watches) == 2)
        assert check_health(channel) == SERVING
        assert set(listed(channel).values()) == {SERVING}
