"""How Triton's service is added to a gRPC server."""

from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from serving.rpc.call import RpcCall
from serving.rpc.translation import ROOM_BYTES, SYMBOL_BYTES
from serving.texts.limits import Limits
from serving.triton import inference_pb2 as pb
from serving.triton.servicer import InferenceServicer

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_PREFIX = f"/{_SERVICE.full_name}/"
_PROBES = {"ServerLive", "ServerReady", "ModelReady"}
# Counted, logged and traced; balancers ask the others all the time.
METHODS = [each.name for each in _SERVICE.methods if each.name not in _PROBES]
PATHS = frozenset(_PREFIX + name for name in METHODS)
# Who asks whether the server runs needs no token.
OPEN_PATHS = frozenset(_PREFIX + name for name in ("ServerLive", "ServerReady"))


def longest_messages(limits: Limits) -> dict[str, int]:
    """Return how many bytes a message may have, by method, for those that take much."""
    longest = SYMBOL_BYTES * limits.prompt + ROOM_BYTES
    return {"ModelInfer": longest, "ModelStreamInfer": longest}


def add_inference(server: grpc.aio.Server, servicer: InferenceServicer) -> None:
    """Add the service; its methods that are not answered say so."""
    handlers = {
        method.name: (
            grpc.stream_stream_rpc_method_handler
            if method.client_streaming
            else grpc.unary_unary_rpc_method_handler
        )(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in _SERVICE.methods
    }
    served = grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)
    server.add_generic_rpc_handlers((served, _Unserved()))


class _Unserved(grpc.GenericRpcHandler):
    """Refuses the methods of Triton's service that make no sense here."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return what refuses a method; None for one of another service."""
        method: str = details.method
        if not method.startswith(_PREFIX):
            return None
        return grpc.unary_unary_rpc_method_handler(_refuse, request_deserializer=bytes)


async def _refuse(request: bytes, call: RpcCall) -> None:
    known = ", ".join(method.name for method in _SERVICE.methods)
    await call.context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"{call.method:.100} is not served here; known: {known}"
    )
