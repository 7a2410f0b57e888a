"""Requests over HTTP, by the standard library's client and by hand."""

import json
import socket
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

from tests.serving.running import ENDLESS, PATIENCE, RunningServer

SERVICE = "/unroll.v1.TextGenerationService/"
LONG: dict[str, Any] = {"prompt": "abc", "maxNewSymbols": ENDLESS, "seed": 3}
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """An answer, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """ErrorInfo's reason, of a refusal in the Connect protocol."""
        (info,) = (each for each in self.json["details"] if each["type"].endswith("ErrorInfo"))
        return str(info["debug"]["reason"])


def ask(
    running: RunningServer,
    verb: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    tls: SSLContext | None = None,
) -> Answer:
    """Ask on a connection of its own; a body that is not bytes is sent as JSON."""
    address = urlsplit(running.server.http_address).netloc
    made = (
        HTTPConnection(address, timeout=PATIENCE)
        if tls is None
        else HTTPSConnection(address, timeout=PATIENCE, context=tls)
    )
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with closing(made) as connection:
        connection.request(verb, path, data, JSON | (headers or {}))
        response = connection.getresponse()
        told = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, told, response.read())


def call(running: RunningServer, method: str, body: Any, **rest: Any) -> Answer:
    """Call a unary method in the Connect protocol."""
    return ask(running, "POST", SERVICE + method, body, **rest)


class RawRequest:
    """A connection that has sent one request and reads what it is told to read.

    Args:
        running: the server.
        path: that is posted to.
        body: as JSON, unless it is bytes.
        more: headers.
    """

    def __init__(
        self, running: RunningServer, path: str, body: Any, more: dict[str, str] | None = None
    ) -> None:
        address = urlsplit(running.server.http_address)
        assert address.hostname is not None
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = JSON | {"host": address.netloc, "content-length": str(len(data))} | (more or {})
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(PATIENCE)
        self._socket.connect((address.hostname, address.port))
        self._socket.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data)

    def send(self, data: bytes) -> None:
        """Send more."""
        self._socket.sendall(data)

    def read(self, size: int = 4096) -> bytes:
        """Read some of the answer; empty at its end."""
        try:
            return self._socket.recv(size)
        except ConnectionResetError:
            return b""

    def read_all(self) -> bytes:
        """Read until the server closes the connection."""
        parts = []
        while part := self.read(65536):
            parts.append(part)
        return b"".join(parts)

    def __enter__(self) -> "RawRequest":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
