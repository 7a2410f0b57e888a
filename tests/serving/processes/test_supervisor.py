"""Several processes on one port: each serves any session, one that ends starts again."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port
from tests.processes import is_spawned, spawned_by
from tests.serving.running import ENDLESS, PATIENCE, server_process, wait_for
from tests.unroll.client.stub import Stub, ask, connected, refused
from training.settings import Cell
from unroll.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.slow

Running = tuple["subprocess.Popen[str]", str]


def arguments(bundle: Path, *more: str) -> list[str]:
    return ["--processes", "2", "--model", str(bundle), *more]


def listens(pid: int, address: str) -> bool:
    """Tell whether a process listens on the port of an address."""
    try:
        inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    port = f":{int(address.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/net/{name}").read_text("ascii") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(
        line[1].endswith(port) and line[3] == "0A" and f"socket:[{line[9]}]" in inodes
        for line in lines
    )


def both_listen(server: "subprocess.Popen[str]", address: str) -> bool:
    pair = spawned_by(server.pid)
    return len(pair) == 2 and all(listens(pid, address) for pid in pair)


@contextmanager
def stubs(address: str, count: int) -> Iterator[list[Stub]]:
    """Connect often enough that both processes have got a connection, but for chance."""
    apart = [("grpc.use_local_subchannel_pool", 1)]  # else they would share one connection
    with ExitStack() as stack:
        channels = (grpc.insecure_channel(address, options=apart) for _ in range(count))
        yield [Stub(stack.enter_context(channel)) for channel in channels]


def counted(port: int, name: str) -> float:
    """Sum a metric over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as page:
        text = page.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


@pytest.fixture
def gru(tiny_bundles: dict[Cell, Path]) -> Path:
    return tiny_bundles["gru"]


def test_processes_are_one_server_from_start_to_drain(gru: Path, tmp_path: Path) -> None:
    metrics = free_port()
    with server_process(
        tmp_path, *arguments(gru, "--metrics-port", str(metrics), "--slots", "8")
    ) as (server, at):
        pair = spawned_by(server.pid)
        assert [listens(pid, at) for pid in pair] == [True, True]
        with stubs(at, 24) as all_stubs:
            first, *others = all_stubs
            whole = first.generate("abc", 120)
            session, ended = first.start().id, first.start().id
            text = first.generate("abc", 5, session=session).text
            for stub in others:
                text += stub.generate("", 5, session=session).text
            assert text == whole.text
            part = first.generate("abc", 60)
            rest = others[-1].generate("", 60, capsule=part.completion.capsule)
            assert part.text + rest.text == whole.text
            first.end(ended)
            for stub in others:
                with refused("SESSION_ENDED"):
                    stub.get(ended)
        # A call is counted when it has ended, which its client may learn a moment before.
        wait_for(lambda: counted(metrics, "unroll_requests_total") >= 53)
        calls = counted(metrics, "unroll_requests_total")
        assert calls == 53
        assert counted(metrics, "unroll_slots") == 16

        killed, other = pair
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: not listens(killed, at))
        assert counted(metrics, "unroll_requests_total") == calls
        with connected(at) as stub:
            assert stub.get(session).position == 123
        wait_for(lambda: both_listen(server, at))
        assert other in spawned_by(server.pid)
        with stubs(at, 8) as again:
            assert [stub.get(session).position for stub in again] == [123] * 8

        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        assert log.count("draining for up to") == 2
        assert "has ended; it starts again in 1 s" in log
        assert not any(is_spawned(pid) for pid in pair)


def test_sighup_reloads_each_process_and_all_end_with_their_supervisor(
    gru: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with server_process(tmp_path, *arguments(gru)) as (server, _):
        pair = spawned_by(server.pid)
        server.send_signal(signal.SIGHUP)
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        for _ in pair:
            assert any("the same bundle" in line for line in lines)
        assert [*tmp_path.glob("unroll-sessions-*")]
        server.kill()
        wait_for(lambda: not any(is_spawned(pid) for pid in pair))
        assert not [*tmp_path.glob("unroll-sessions-*")]


def test_signals_of_a_terminal_to_all_processes_that_start_end_none(
    gru: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "unroll", "serve", "--port", "0", *arguments(gru)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        try:
            wait_for(lambda: bool(spawned_by(server.pid)))
            for pid in spawned_by(server.pid):
                os.kill(pid, signal.SIGINT)
            os.killpg(server.pid, signal.SIGHUP)
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            assert any("the same bundle" in line for line in lines)
        finally:
            server.kill()


def test_sighup_reloads_again_after_two_that_met_a_process_that_was_down(
    gru: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, *arguments(gru)) as (server, at):
        pair = spawned_by(server.pid)
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        os.kill(pair[0], signal.SIGKILL)
        assert any("has ended" in line for line in lines)
        for _ in range(2):
            server.send_signal(signal.SIGHUP)
            assert any("the same bundle" in line for line in lines)
        wait_for(lambda: both_listen(server, at))
        server.send_signal(signal.SIGHUP)
        for _ in pair:
            assert any("the same bundle" in line for line in lines)


def test_signal_that_each_process_gets_beside_the_supervisor_drains(
    gru: Path, tmp_path: Path
) -> None:
    """As systemd stops a unit: SIGTERM to all of its processes."""
    settings = ("--grace-seconds", "0.5", "--max-new-symbols", str(ENDLESS))
    with server_process(tmp_path, *arguments(gru, *settings)) as (server, at):
        everyone = [*spawned_by(server.pid), server.pid]
        with connected(at) as stub:
            stream = stub.calls.StreamGenerate(ask("abc", ENDLESS), timeout=PATIENCE)
            next(stream)
            for pid in everyone:
                os.kill(pid, signal.SIGTERM)
            *_, last = stream
        assert last.completion.finish_reason == pb.FINISH_REASON_SHUTDOWN
        server.communicate(timeout=PATIENCE)
        assert server.returncode == 0


def test_what_cannot_be_served_is_told_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unroll", "serve", "--port=0"]
    command += arguments(tmp_path / "nothing")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(told) == 1, told
    assert str(tmp_path / "nothing") in told[0]


def test_taken_port_is_refused(gru: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "unroll", "serve", "--port", port, *arguments(gru)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 2
    assert f"port = {port}: cannot listen on 127.0.0.1: Address already in use" in done.stderr
