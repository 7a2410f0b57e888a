"""How tests ask for the health of a server."""

import threading

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serving.running import PATIENCE
from unroll.wire import SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def check_health(channel: grpc.Channel, service: str = SERVICE) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE).status
    return status


class Watch:
    """What a health watch has seen, in order."""

    def __init__(self, channel: grpc.Channel, service: str = SERVICE) -> None:
        self.seen: list[int] = []
        self.code: grpc.StatusCode | None = None  # once it has ended
        request = health_pb2.HealthCheckRequest(service=service)
        self._call = health_pb2_grpc.HealthStub(channel).Watch(request)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self.seen.append(response.status)
        except grpc.RpcError:
            pass
        self.code = self._call.code()
