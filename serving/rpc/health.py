"""The standard health service, `grpc.health.v1.Health`: Check, List and Watch.

Four kinds of names have a health:

    ""                                        the server as a whole
    unroll.v1.TextGenerationService           the same, under the service's name
    unroll.v1.TextGenerationService/NAME      one served model
    unroll.v1.TextGenerationService.Sessions  sessions: whether they can begin and go on

The server as a whole is SERVING from the moment it is ready until it drains or until the engine of
any served model has failed, so that balancers look elsewhere. A model is SERVING until the server
drains or its own engine has failed. Sessions are SERVING while the server is and they can be
written down; texts without a session need no store, so they leave the server as a whole alone.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2

from serving.rpc.call import RpcCall
from unroll.wire import SERVICE

SERVER = ""
SESSIONS = f"{SERVICE}.Sessions"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def name_of(model: str) -> str:
    """Return the name under which a model's health is told."""
    return f"{SERVICE}/{model}"


class Health:
    """Tells whether the server and its models can be used; all on one event loop.

    Each watch writes its own news in its own time, so none holds up another, or who tells the
    news. A watch never ends by itself; gRPC would cut it off when the server stops, and log a
    traceback for each. `end_watches` ends them in good order, after the last news.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()  # replaced at each change
        self._is_draining = False
        self._has_ended = False

    @property
    def is_serving(self) -> bool:
        """Whether the server as a whole can be used."""
        return SERVER in self._statuses and bool(self._statuses[SERVER] == SERVING)

    def serves(self, model: str) -> bool:
        """Whether a served model can be used."""
        return bool(self._statuses.get(name_of(model)) == SERVING)

    def tell(self, failed: dict[str, bool], *, store_has_failed: bool) -> None:
        """Tell the health of the server by that of its parts; nothing any more once it drains.

        Args:
            failed: whether the engine of a model has failed, by the model's name.
            store_has_failed: whether sessions cannot be written down at the moment.
        """
        if self._is_draining:
            return
        has_failed = any(failed.values())
        names = {SERVER: has_failed, SERVICE: has_failed}
        names |= {SESSIONS: has_failed or store_has_failed}
        names |= {name_of(model): is_failed for model, is_failed in failed.items()}
        self._statuses = {name: NOT_SERVING if bad else SERVING for name, bad in names.items()}
        self._wake()

    def drain(self) -> None:
        """Tell from now on that nothing can be used."""
        self._is_draining = True
        self._statuses = dict.fromkeys(self._statuses, NOT_SERVING)
        self._wake()

    def end_watches(self) -> None:
        """End all watches, those still to come too; one whose reader has no room is left."""
        self._has_ended = True
        self._wake()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, call: RpcCall
    ) -> health_pb2.HealthCheckResponse:
        """Tell the health of one name; NOT_FOUND for a name that has none."""
        status = self._statuses.get(request.service)
        if status is None:
            await call.context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, call: RpcCall
    ) -> health_pb2.HealthListResponse:
        """Tell the health of all names."""
        return health_pb2.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=status)
                for name, status in self._statuses.items()
            }
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, call: RpcCall
    ) -> None:
        """Send the health of a name, and every change of it."""
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, SERVICE_UNKNOWN)
            if status != told:
                await call.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            elif self._has_ended:
                return
            else:
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
