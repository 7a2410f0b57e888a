"""The HTTP door: a port, and the connections to it, on the server's event loop."""

import asyncio
import socket
from ssl import SSLContext

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.http.connection import IDLE_SECONDS, Connection, ConnectionLimits
from unroll.errors import SettingsError

BACKLOG = 2048
HANDSHAKE_SECONDS = 10.0
LAST_WORDS_SECONDS = 0.25  # for answers on their way, once all calls have ended


class HttpDoor:
    """Listens until it is closed. Signals are not its business: who made it closes it.

    Args:
        app: that answers.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        limits: of connections.
        tls: encrypts; None for plain text.
        shares_port: whether other processes listen there, too.

    Attributes:
        port: on which it listens.

    Raises:
        SettingsError: the port is taken.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        limits: ConnectionLimits,
        tls: SSLContext | None,
        *,
        shares_port: bool = False,
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._socket = _listen(host, port, shares_port=shares_port)
        self.port: int = self._socket.getsockname()[1]
        self._state = ServerState()
        self._config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what clients do is no news, and our own errors never get there
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
        )
        self._config.load()

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._config, self._state, self._limits),
            sock=self._socket,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_SECONDS,
            backlog=BACKLOG,
        )

    async def close(self) -> None:
        """Take no more connections, and end those that are there."""
        self._server.close()
        for connection in self._connections:
            connection.shutdown()
        if tasks := set(self._state.tasks):
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
        for connection in self._connections:
            connection.abort()
        if tasks := set(self._state.tasks):
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)

    @property
    def _connections(self) -> list[Connection]:
        return [each for each in self._state.connections if isinstance(each, Connection)]


def _listen(host: str, port: int, *, shares_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port),
            family=family,
            backlog=BACKLOG,
            reuse_port=shares_port,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise SettingsError(
            f"http_port = {port}: cannot listen on {host}: {error.strerror}; choose another with "
            "--http-port, or 0 for a free one"
        ) from error
