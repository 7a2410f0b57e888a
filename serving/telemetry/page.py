"""The page for Prometheus, over HTTP."""

import logging
import socket
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Semaphore, Thread, Timer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from unroll.errors import SettingsError

log = logging.getLogger(__name__)

READERS_AT_ONCE = 8
REQUEST_SECONDS = 5.0  # from a connection's beginning to the end of its answer


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing: a scrape is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers so many connections at once, each on a thread; hangs up on further ones."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._room = Semaphore(READERS_AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A timeout of the socket would begin anew with each byte of a slow reader.
        timer = Timer(REQUEST_SECONDS, _hang_up, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback: a reader that has gone, or was hung up on, is no news."""
        log.debug("a reader of the metrics page has gone", exc_info=True)


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        request.shutdown(socket.SHUT_RDWR)


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class MetricsPage:
    """Serves the page over HTTP until it is closed.

    Args:
        metrics: what to show.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Attributes:
        port: on which it listens.
        address: where it is, as a URL.

    Raises:
        SettingsError: the port is taken.
    """

    def __init__(self, metrics: CollectorRegistry, host: str, port: int) -> None:
        try:
            server = _IPv6Server if ":" in host else _Server
            self._server = make_server(host, port, make_wsgi_app(metrics), server, _Handler)
        except OSError as error:
            raise SettingsError(
                f"metrics_port = {port}: cannot listen on {host}: {error.strerror}; choose another "
                "with --metrics-port, or 0 for a free one"
            ) from error
        self.port: int = self._server.server_port
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self.port}/metrics"
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
