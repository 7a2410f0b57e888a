"""The standard health service, whose watches end with the server."""

import asyncio
from typing import Any

from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio


class Health(aio.HealthServicer):  # type: ignore[misc]  # its package has no types
    """Tells whether a service can be used.

    A watch never ends by itself. gRPC would cut it off when the server stops, and log a traceback
    for each; `end_watches` ends them in good order, after the last news.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: ServicerContext[Any, Any],
    ) -> None:
        """Send the state of a service, and every change of it."""
        tasks = [
            asyncio.ensure_future(super().Watch(request, context)),
            asyncio.ensure_future(self._ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def end_watches(self) -> None:
        """End all watches, those still to come too."""
        self._ended.set()
