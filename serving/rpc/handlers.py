"""How the methods of services are added to a server."""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc


class GenericHandlers:
    """A server as the stubs' `add_...Servicer_to_server` sees it; takes generic handlers alone.

    For each method that is registered as well, gRPC's server on asyncio waits for the next call of
    its own, and it sets up all these waits anew with every call: for our 15 methods, a twentieth of
    what a short text costs.

    Args:
        server: that gets the methods.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add handlers of a service."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Leave out what the generic handlers do, too."""
