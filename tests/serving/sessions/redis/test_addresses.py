"""How a Redis is reached: its address, password, socket, encryption, sentinels and cluster."""

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from redis import Redis

from serving.sessions.redis.settings import PASSWORD_VARIABLE
from serving.sessions.redis.store import RedisStore
from serving.sessions.store import Found, Gone
from tests.ports import free_port
from tests.serving.key_servers import KeyServer, program, running
from tests.serving.running import PATIENCE
from tests.serving.sessions.redis.stores import (
    ANNA,
    begin,
    change,
    comes_back,
    is_usable,
    kinds,
    new,
    settings,
    store_at,
)
from unroll.errors import SettingsError, StoreError


@kinds
def test_server_that_evicts_keys_is_refused(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        with (
            running(kind, tmp_path, "--maxmemory-policy", "allkeys-lru") as server,
            pytest.raises(SettingsError, match=r"allkeys-lru, .* set it to noeviction"),
        ):
            await RedisStore.open(settings(server.url), 0.0, lambda: None)

    asyncio.run(scenario())


def test_server_that_is_not_there_is_refused_at_the_start() -> None:
    port = free_port()
    with pytest.raises(SettingsError, match=f"store: server 127.0.0.1:{port} cannot be used"):
        asyncio.run(RedisStore.open(settings(f"redis://127.0.0.1:{port}"), 0.0, lambda: None))


@kinds
def test_password_comes_from_a_file_or_the_environment_and_is_never_shown(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secrets.token_hex(8)
    (tmp_path / "password").write_text(secret + "\n", encoding="ascii")

    async def scenario() -> None:
        with running(kind, tmp_path, "--requirepass", secret) as server:
            from_file = settings(server.url, password=tmp_path / "password")
            assert secret not in repr(from_file)
            monkeypatch.setenv(PASSWORD_VARIABLE, secret)
            from_variable = settings(server.url)
            monkeypatch.delenv(PASSWORD_VARIABLE)
            for reached in (from_file, from_variable):
                async with store_at(reached) as store:
                    assert await is_usable(store)
            for wrong in (settings(server.url), replace(from_variable, password="wrong")):
                with pytest.raises(SettingsError, match="user and password") as refused:
                    await RedisStore.open(wrong, 0.0, lambda: None)
                assert secret not in str(refused.value)

    asyncio.run(scenario())


@kinds
def test_unix_socket_reaches_it(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        with running(kind, tmp_path, "--unixsocket", str(tmp_path / "socket")):
            async with store_at(settings(f"unix://{tmp_path}/socket")) as store:
                assert await is_usable(store)

    asyncio.run(scenario())


def test_tls_reaches_it_if_the_authority_is_trusted(tmp_path: Path) -> None:
    """Of Redis; the wheel's Valkey is built without TLS."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    ca, key, chain = (tmp_path / name for name in ("ca.pem", "key.pem", "chain.pem"))
    authority.cert_pem.write_to_path(ca)
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    port = free_port()
    options = {"port": port, "cert-file": chain, "key-file": key, "ca-cert-file": ca,
               "auth-clients": "no"}  # fmt: skip
    url = f"rediss://127.0.0.1:{port}"

    async def scenario() -> None:
        arguments = [word for name, value in options.items() for word in (f"--tls-{name}", value)]
        with running("redis", tmp_path, *map(str, arguments)):
            async with store_at(settings(url, ca=ca)) as store:
                assert await is_usable(store)
            with pytest.raises(SettingsError, match="cannot be used"):
                await RedisStore.open(settings(url), 0.0, lambda: None)

    asyncio.run(scenario())


def test_sentinels_lead_to_the_new_primary(tmp_path: Path) -> None:
    """Of Redis; the sentinel is the same program."""

    async def scenario() -> None:
        for name in "ab":
            (tmp_path / name).mkdir()
        with (
            running("redis", tmp_path / "a") as first,
            running("redis", tmp_path / "b", "--replicaof", "127.0.0.1", str(first.port)) as second,
            sentinel(tmp_path, first.port) as port,
        ):
            async with asyncio.timeout(3 * PATIENCE):
                while not replicas(first):
                    await asyncio.sleep(0.05)
                url = f"redis+sentinel://127.0.0.1:{port}/mymaster"
                async with store_at(settings(url, timeout_seconds=2.0)) as store:
                    await store.create([new("a")])
                    while not replicas(first):
                        await asyncio.sleep(0.05)
                    first.stop()
                    while not await comes_back(store):
                        await asyncio.sleep(0.1)
                    with second.client as client:
                        assert client.role()[0] == b"master"

    asyncio.run(scenario())


def replicas(server: KeyServer) -> int:
    with server.client as client:
        return int(client.info("replication")["connected_slaves"])


@contextmanager
def sentinel(folder: Path, watched: int) -> Iterator[int]:
    """Run a sentinel that watches a server, and give its port."""
    port, written = free_port(), folder / "sentinel.conf"
    written.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor mymaster 127.0.0.1 {watched} 1\n"
        "sentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 2000\n",
        encoding="ascii",
    )
    arguments = [program("redis"), str(written), "--sentinel"]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


@kinds
def test_cluster_keeps_all_of_a_session_together(kind: str, tmp_path: Path) -> None:
    cluster, _ = cluster_options()

    async def scenario() -> None:
        with running(kind, tmp_path, *cluster) as server:
            with server.client as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
                async with asyncio.timeout(PATIENCE):
                    while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                        await asyncio.sleep(0.05)
            url = f"redis+cluster://127.0.0.1:{server.port}"
            async with store_at(settings(url)) as store:
                assert await is_usable(store)
                await store.create([new("a")])
                assert await store.commit(await begin(store, "a"), change(b"new"))
                assert await store.end(await begin(store, "a"))
                assert await store.read("a", ANNA) is Gone.ENDED

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host", "the scheme 'http' is none of redis"),
        ("redis://:secret@host", "it holds a password"),
        ("redis://", "names no host"),
        ("redis://a,b", r"several hosts need redis\+sentinel"),
        ("redis://host/x", "its database is 'x', not a number"),
        ("redis://host:port", "Port could not be cast"),
        ("redis+sentinel://a,b", "name of a service"),
        ("unix://", "path of a socket"),
    ],
)
def test_wrong_address_is_refused_with_the_right_ones(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        settings(url)
    assert "redis://HOST:PORT/DATABASE" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_addresses_are_read() -> None:
    many = settings("rediss+sentinel://anna@a,b:7/mymaster/3")
    assert many.addresses == (("a", 26379), ("b", 7))
    assert (many.kind, many.service, many.database, many.user) == (
        "sentinel",
        "mymaster",
        3,
        "anna",
    )
    assert many.tls
    one = settings("redis://[::1]/2")
    assert (one.kind, one.addresses, one.database) == ("server", (("::1", 6379),), 2)


@kinds
def test_new_password_in_the_file_counts_for_the_next_connection(kind: str, tmp_path: Path) -> None:
    old, young = secrets.token_hex(8), secrets.token_hex(8)
    (tmp_path / "password").write_text(old, encoding="ascii")

    async def scenario() -> None:
        with running(kind, tmp_path, "--requirepass", old) as server:
            async with store_at(settings(server.url, password=tmp_path / "password")) as store:
                await store.create([new("a")])
                with Redis(port=server.port, password=old) as client:
                    client.config_set("requirepass", young)
                    (tmp_path / "password").write_text(young, encoding="ascii")
                    client.client_kill_filter(_type="normal", skipme=True)
                assert isinstance(await store.read("a", ANNA), Found)

    asyncio.run(scenario())


@kinds
def test_sessions_that_move_in_a_cluster_are_followed(kind: str, tmp_path: Path) -> None:
    options, bus = cluster_options()

    async def scenario() -> None:
        for name in "ab":
            (tmp_path / name).mkdir()
        with (
            running(kind, tmp_path / "a", *cluster_options()[0]) as first,
            running(kind, tmp_path / "b", *options) as second,
            first.client as here,
            second.client as there,
        ):
            here.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            here.execute_command("CLUSTER", "MEET", "127.0.0.1", str(second.port), bus)
            async with asyncio.timeout(PATIENCE):
                while not all(is_whole(client) for client in (here, there)):
                    await asyncio.sleep(0.05)
            async with store_at(settings(f"redis+cluster://127.0.0.1:{first.port}")) as store:
                await store.create([new("a")])
                lease = await begin(store, "a")
                slot = str(here.execute_command("CLUSTER", "KEYSLOT", "{p}:used"))
                ids = [each.execute_command("CLUSTER", "MYID") for each in (here, there)]
                there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
                here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
                keys = here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, "100")
                assert len(keys) == 3
                to = ("MIGRATE", "127.0.0.1", str(second.port), "", "0", "5000", "KEYS")
                store._idle_seconds = 1e-6
                for some in [b"{p}:session:a"], set(keys) - {b"{p}:session:a"}:
                    here.execute_command(*to, *some)
                    for use in store.read("a", ANNA), store.renew(lease), store.expire():
                        with pytest.raises(StoreError, match="refuses"):
                            await use
                store._idle_seconds = 0.0
                for each in (there, here):
                    each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
                assert await store.commit(lease, change(b"new"))
                assert await store.end(await begin(store, "a"))
                assert not here.dbsize()

    asyncio.run(scenario())


def cluster_options() -> tuple[tuple[str, ...], str]:
    """Return what makes a server one of a cluster, and the port at which others of it meet it."""
    bus = str(free_port())
    return ("--cluster-enabled", "yes", "--cluster-port", bus), bus


def is_whole(node: Redis) -> bool:
    told: dict[str, str] = node.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return (told["cluster_state"], told["cluster_known_nodes"]) == ("ok", "2")
