"""Server reflection, by which tools such as grpcurl learn what can be called: v1 and v1alpha.

Both versions have the same messages under two names; the installed package knows v1alpha alone, so
v1 is made of it here.
"""

from collections.abc import Iterable

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as V1ALPHA
from grpc_reflection.v1alpha.reflection import aio

V1 = V1ALPHA.replace("v1alpha", "v1")


def add_reflection(server: grpc.aio.Server, files: Iterable[FileDescriptor]) -> None:
    """Serve reflection of the services in some files, and of itself.

    Args:
        server: that has these services.
        files: that define them.
    """
    pool, names = DescriptorPool(), [V1, V1ALPHA]
    for file in (*files, reflection_pb2.DESCRIPTOR):
        _add(pool, file)
        names += [service.full_name for service in file.services_by_name.values()]
    pool.AddSerializedFile(_as_v1(reflection_pb2.DESCRIPTOR).SerializeToString())
    servicer = aio.ReflectionServicer(set(names), pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            for name in (V1, V1ALPHA)
        )
    )


def _add(pool: DescriptorPool, file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _add(pool, dependency)
    pool.AddSerializedFile(file.serialized_pb)


def _as_v1(file: FileDescriptor) -> FileDescriptorProto:
    alpha = FileDescriptorProto()
    file.CopyToProto(alpha)
    return text_format.Parse(str(alpha).replace("v1alpha", "v1"), FileDescriptorProto())
