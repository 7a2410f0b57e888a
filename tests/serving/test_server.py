"""What a server offers and refuses beside texts."""

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import grpc
import pytest

from serving import process
from serving.rpc import servicer
from serving.runtime.decoder import LoopResult, LoopRun, State
from serving.runtime.host import HostRunner
from serving.runtime.onnx import Device
from serving.settings import ServerSettings
from tests.serving.rpc.health import NOT_SERVING, SERVING, check_health
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import (
    ClosedError,
    DeviceError,
    EngineFailedError,
    InputError,
    OverloadedError,
    ServerError,
    SettingsError,
)
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub
from unroll.wire import from_rpc_error

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("method", ["Generate", "Score"])
def test_unknown_enum_value_is_refused(shared_server: RunningServer, method: str) -> None:
    request = getattr(pb, f"{method}Request")(unknown_symbols=7)
    with grpc.insecure_channel(shared_server.address) as channel:
        call = getattr(TextGenerationServiceStub(channel), method)
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
    error = from_rpc_error(caught.value, "there")
    assert isinstance(error, InputError)
    assert error.field == "unknown_symbols"
    assert "got 7" in error.problem


def test_message_above_the_limit_is_refused_and_is_no_overload(client: Client) -> None:
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED") as caught:
        client.score("a" * 9_000_000)
    assert not isinstance(caught.value, OverloadedError)


def test_unexpected_failure_is_logged_and_tells_the_client_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(servicer, "write_model", fail)
    with caplog.at_level(logging.ERROR), pytest.raises(ServerError) as caught:
        client.get_model()
    assert re.search(r"INTERNAL: internal error; .* \(request .+\)$", str(caught.value))
    assert "a secret" in caplog.text


def test_failed_engine_ends_its_calls_and_the_health(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(call: LoopRun, state: State) -> LoopResult:
        raise MemoryError(f"no room for {len(call.tokens)} rows")

    with (
        serve(str(tiny_bundles["gru"])) as running,
        running.client() as client,
        grpc.insecure_channel(running.address) as channel,
    ):
        assert check_health(channel) == SERVING
        monkeypatch.setattr(running.server.models.get("").engine.decoder, "run", fail)
        with pytest.raises(ClosedError, match="the engine failed"):
            client.generate("abc", timeout=PATIENCE)
        wait_for(lambda: check_health(channel) == NOT_SERVING)


def test_failed_warm_up_ends_the_health_without_a_call(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(runner: HostRunner) -> None:
        raise MemoryError("no room for graphs")

    monkeypatch.setattr(HostRunner, "warm_up", fail)
    with (
        serve(str(tiny_bundles["gru"])) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        wait_for(lambda: check_health(channel) == NOT_SERVING)


def test_process_ends_with_a_failed_engine_if_it_was_asked_to(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(runner: HostRunner) -> None:
        raise MemoryError("no room for graphs")

    monkeypatch.setattr(HostRunner, "warm_up", fail)
    settings = ServerSettings(
        model=(str(tiny_bundles["gru"]),), port=0, exit_on_engine_failure=True
    )
    with pytest.raises(EngineFailedError) as caught:
        asyncio.run(asyncio.wait_for(process.serve(settings, lambda server: None), PATIENCE))
    assert caught.value.exit_status == 70


def test_deployments_end_with_a_failed_engine() -> None:
    config = tomllib.loads((DEPLOY / "server.toml").read_text(encoding="utf-8"))
    assert config["exit_on_engine_failure"] is True
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert "--exit-on-engine-failure" in compose


@pytest.mark.slow
def test_client_that_pings_often_while_idle_stays_connected(shared_server: RunningServer) -> None:
    pinging = [
        ("grpc.keepalive_time_ms", 50),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    seen: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(shared_server.address, options=pinging) as channel:
        grpc.channel_ready_future(channel).result(PATIENCE)
        channel.subscribe(seen.append)
        time.sleep(4.0)  # gRPC pings once a second at most, and hangs up at the fourth ping
        assert set(seen) == {grpc.ChannelConnectivity.READY}


def test_port_that_is_taken_is_an_error(
    shared_server: RunningServer, tiny_bundles: dict[Cell, Path]
) -> None:
    taken = ServerSettings(model=(str(tiny_bundles["gru"]),), port=shared_server.server.port)
    with (
        pytest.raises(SettingsError, match=r"is the port taken\? choose another with --port"),
        RunningServer(taken),
    ):
        pass


def test_cuda_on_a_machine_without_one_is_an_error(tiny_bundles: dict[Cell, Path]) -> None:
    asked = serve(str(tiny_bundles["gru"]), device=Device.CUDA)
    with pytest.raises(DeviceError, match="cuda was asked for"), asked:
        pass


def test_server_can_start_again_in_one_process(tiny_bundles: dict[Cell, Path]) -> None:
    for _ in range(2):
        with serve(str(tiny_bundles["gru"])) as running, running.client() as client:
            assert client.generate("abc").text


def test_serving_process_imports_neither_torch_nor_onnx(tiny_bundles: dict[Cell, Path]) -> None:
    code = """
import asyncio, json, sys
import serving.__main__, unroll.client.commands.ask
from unroll.client.aio import AsyncClient
from serving.server import Server
from serving.settings import ServerSettings

async def main():
    async with Server(ServerSettings(model=(sys.argv[1],), port=0)) as server:
        async with AsyncClient(server.address) as client:
            assert (await client.generate("abc")).text
            assert (await client.score("abc")).log_probs

asyncio.run(main())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    command = [sys.executable, "-c", code, str(tiny_bundles["gru"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert "onnxruntime" in imported
    assert not imported & {"torch", "onnx", "export", "training", "pooch", "safetensors", "pytest"}


def test_stopping_leaves_no_thread_and_no_task_behind(tiny_bundles: dict[Cell, Path]) -> None:
    before = set(threading.enumerate())
    with serve(str(tiny_bundles["gru"])) as running, running.client() as client:
        client.generate("abc")
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not left & {"engine", "server"}
    assert not asyncio.all_tasks(running.loop)


def test_port_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "port"
    folder.mkdir()
    with pytest.raises(SettingsError, match=r"port_file = .*cannot be written: Is a directory"):
        process.write_port(folder, 5)
    assert [*tmp_path.iterdir()] == [folder]
