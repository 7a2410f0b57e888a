"""One connection: uvicorn's protocol, with bounds on what a client can leave lying about."""

import asyncio
import random
import socket
from dataclasses import dataclass
from ssl import SSLObject
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

HEAD_BYTES_AT_MOST = 64 * 1024  # of a request's line and headers
IDLE_SECONDS = 60  # without a request, before the first and after each
SPREAD = 0.1  # of a connection's age, so that those which began together do not end together
PROBES = 3  # of TCP, until a silent peer is taken for dead


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What a connection may do.

    Attributes:
        connections: at once, of all clients; a further one is closed at once.
        silent_seconds: after which the other machine is asked whether it is there.
        answer_seconds: within which it has to answer.
        age_seconds: after which it ends with the request under way; 0 for never.
    """

    connections: int
    silent_seconds: float
    answer_seconds: float
    age_seconds: float


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client, one request after another.

    A request that comes while another is being answered is not read, and the connection ends with
    that answer: uvicorn would queue it, and not notice any more that the client goes.

    Requests find it in their scope, as `state["connection"]`.

    Args:
        config: of uvicorn.
        server_state: of all connections.
        limits: of each.
    """

    def __init__(self, config: Config, server_state: ServerState, limits: ConnectionLimits) -> None:
        super().__init__(config, server_state, {"connection": self})
        self._limits = limits
        self._head_bytes = 0  # that have come of the next request's head
        self._is_in_head = True
        self._is_deaf = False
        self._begun = 0  # requests whose heads have come
        self._seen = -1  # of them, when the connection was last found waiting
        self._idling: asyncio.TimerHandle | None = None
        self._ageing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; see asyncio.Protocol."""
        super().connection_made(transport)
        limits = self._limits
        if len(self.connections) > limits.connections:
            transport.abort()
            return
        _keep_alive(transport, limits)
        self._idling = self.loop.call_later(IDLE_SECONDS, self._end_if_idle)
        if limits.age_seconds:
            age = limits.age_seconds * random.uniform(1 - SPREAD, 1 + SPREAD)
            self._ageing = self.loop.call_later(age, self.shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; see asyncio.Protocol."""
        for timer in (self._idling, self._ageing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come; see asyncio.Protocol."""
        if self._is_deaf:
            return
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_BYTES_AT_MOST:
            self.send_400_response("Request header fields too large.")

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._is_in_head = False
        self._begun += 1
        before: RequestResponseCycle | None = self.cycle  # whatever its stub says
        if before is not None and not before.response_complete:
            self._is_deaf, before.keep_alive = True, False
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a request's body."""
        if not self._is_deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        if self._is_deaf:
            return
        super().on_message_complete()
        self._is_in_head, self._head_bytes = True, 0

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The client's certificate as `ssl` describes it; None without one."""
        channel: SSLObject | None = self.transport.get_extra_info("ssl_object")
        return (channel.getpeercert() if channel is not None else None) or None

    async def drain(self) -> None:
        """Wait until the client has taken what was sent, but for some kilobytes, or has gone."""
        if self.flow.write_paused:
            await self.flow.drain()

    def abort(self) -> None:
        """Cut the connection without waiting for the client to take what was sent."""
        self.transport.abort()

    def _end_if_idle(self) -> None:
        """End if the client has sent no whole head since the last time that it was waited for."""
        running: RequestResponseCycle | None = self.cycle
        is_waiting = running is None or running.response_complete
        if is_waiting and self._begun in {0, self._seen}:
            self.transport.close()
            return
        self._seen = self._begun if is_waiting else -1
        self._idling = self.loop.call_later(IDLE_SECONDS, self._end_if_idle)


def _keep_alive(transport: asyncio.Transport, limits: ConnectionLimits) -> None:
    """Let the system ask a silent machine whether it is there, and hang up on one that is not."""
    connected: socket.socket = transport.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": max(round(limits.silent_seconds), 1),
        "TCP_KEEPINTVL": max(round(limits.answer_seconds / PROBES), 1),
        "TCP_KEEPCNT": PROBES,
    }
    for name, value in options.items():
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
