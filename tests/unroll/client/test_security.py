"""What a connection tells to whom: no proxy of the environment hears what is sent in plain text."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.running import PATIENCE, RunningServer
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.remote.security import Security, read_token
from unroll.errors import SettingsError, UnavailableError

TOKEN = "this-is-a-secret"
PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listen where all proxies are said to be; nobody is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield listener


def heard(listener: socket.socket) -> bool:
    """Tell whether somebody has connected."""
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("token", ["", TOKEN])
def test_plain_text_goes_straight_to_the_server(
    proxy: socket.socket, shared_server: RunningServer, token: str
) -> None:
    security = Security(token=token)

    async def ask() -> None:
        async with AsyncClient(shared_server.address, security=security) as client:
            await client.wait_until_ready(PATIENCE)
            assert (await client.generate("abc", timeout=PATIENCE)).text

    try:
        with Client(shared_server.address, security=security) as client:
            client.wait_until_ready(PATIENCE)
            assert client.generate("abc", timeout=PATIENCE).text
        asyncio.run(ask())
    finally:
        assert not heard(proxy)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n", "holds no token; change --token-file"),
        ("one\ntwo\n", "has 2 lines; one line with one token is wanted; change --token-file"),
        (f"anna:{'0a' * 32}\n", "holds digests of tokens, which are for the server's --tokens"),
        (f"# ours\nanna:{'0a' * 32}\n", "holds digests of tokens, which are for the server's"),
    ],
)
def test_file_that_holds_anything_but_a_token_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_token(file)
    file.write_text("the-token\n")
    assert read_token(file) == "the-token"


def test_proxy_is_asked_to_pass_on_what_is_encrypted_and_no_more(proxy: socket.socket) -> None:
    security = Security(tls=True, token=TOKEN)
    with (
        Client("models.example:443", security=security) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        called = pool.submit(client.list_models, timeout=PATIENCE)
        proxy.settimeout(PATIENCE)
        connection, _ = proxy.accept()
        with connection:
            asked = connection.recv(4096)
        with pytest.raises(UnavailableError):
            called.result()
    assert asked.startswith(b"CONNECT models.example:443 ")
    assert TOKEN.encode() not in asked
