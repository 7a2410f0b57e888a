"""The page for Prometheus, over HTTP."""

import socket
from socketserver import ThreadingMixIn
from threading import Semaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from serving.telemetry.metrics import Metrics
from unroll.errors import SettingsError

READERS_AT_ONCE = 8
SILENT_SECONDS = 5.0  # after which a connection that asks nothing is closed


class _Handler(WSGIRequestHandler):
    timeout = SILENT_SECONDS

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
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class MetricsPage:
    """Serves the page over HTTP until it is closed.

    Args:
        metrics: what to show.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Raises:
        SettingsError: the port is taken.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(metrics)
        ProcessCollector(registry=registry)
        try:
            server = _IPv6Server if ":" in host else _Server
            self._server = make_server(host, port, make_wsgi_app(registry), server, _Handler)
        except OSError as error:
            raise SettingsError(
                f"metrics_port = {port}: cannot listen on {host}: {error.strerror}; choose another "
                "with --metrics-port, or 0 for a free one"
            ) from error
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
