"""Reflection, in both versions, and that all it lists can be called."""

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from tests.serving.running import PATIENCE, RunningServer
from unroll.v1 import text_generation_pb2 as pb

SERVICES = {
    "unroll.v1.TextGenerationService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


class V1Database(ProtoReflectionDescriptorDatabase):  # type: ignore[misc]  # it has no types
    """Asks by the version that the package does not know yet; its messages are the same."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel)
        self._stub.ServerReflectionInfo = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )


@pytest.mark.parametrize("database", [V1Database, ProtoReflectionDescriptorDatabase])
def test_both_versions_list_and_describe_all_services(
    shared_server: RunningServer, database: type[ProtoReflectionDescriptorDatabase]
) -> None:
    with grpc.insecure_channel(shared_server.address) as channel:
        found = database(channel)
        assert set(found.get_services()) == SERVICES
        pool = DescriptorPool(found)
        described = {name: pool.FindServiceByName(name).methods_by_name for name in SERVICES}
    assert "StreamGenerate" in described["unroll.v1.TextGenerationService"]
    assert set(described["grpc.health.v1.Health"]) == {"Check", "List", "Watch"}
    assert set(described["grpc.reflection.v1.ServerReflection"]) == {"ServerReflectionInfo"}


def methods(channel: grpc.Channel) -> Iterator[MethodDescriptor]:
    database = V1Database(channel)
    pool = DescriptorPool(database)
    for service in database.get_services():
        yield from pool.FindServiceByName(service).methods


def outcome(channel: grpc.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    """Call a method with one empty message, and read one answer at most."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    message = GetMessageClass(method.input_type)().SerializeToString()
    call: Any
    if method.client_streaming:
        call = channel.stream_stream(path, bytes, bytes)(iter([message]), timeout=PATIENCE)
    else:
        call = channel.unary_stream(path, bytes, bytes)(message, timeout=PATIENCE)
    try:
        next(call)
    except StopIteration:
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    call.cancel()
    return grpc.StatusCode.OK


def test_all_that_is_listed_can_be_called_without_a_traceback(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with grpc.insecure_channel(shared_server.address) as channel:
        outcomes = {method.full_name: outcome(channel, method) for method in methods(channel)}
    ours = pb.DESCRIPTOR.services_by_name["TextGenerationService"]
    assert {method.full_name for method in ours.methods} < set(outcomes)
    never = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
    assert not never & set(outcomes.values()), outcomes
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
