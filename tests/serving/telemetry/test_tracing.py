"""Each call is a span at a collector, under the caller's own span."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.serving.http.asking import ask as post
from tests.serving.running import serve
from tests.unroll.client.stub import ask, connected, refused
from training.settings import Cell

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def Export(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        collector, server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_each_call_is_a_span_that_holds_no_text(tiny_bundles: dict[Cell, Path]) -> None:
    traced = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
    with collecting() as (collector, endpoint):
        with (
            serve(str(tiny_bundles["gru"]), otel_endpoint=endpoint) as server,
            connected(server.address) as stub,
        ):
            list(stub.calls.StreamGenerate(ask("cabbage", 9), metadata=traced))
            with refused("UNKNOWN_SYMBOL"):
                stub.generate("cabbage한", 9)
        # The server has ended, and sent the rest before that.
        first, second = collector.spans
    assert first.name == "unroll.v1.TextGenerationService/StreamGenerate"
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert second.trace_id.hex() != TRACE
    told = {each.key: each.value for each in first.attributes}
    assert told["unroll.symbols_read"].int_value == 7
    assert told["unroll.symbols_written"].int_value == 9
    assert told["unroll.model"].string_value == "gru"
    failed = {each.key: each.value for each in second.attributes}
    assert failed["rpc.grpc.status_code"].int_value == 3
    assert failed["unroll.request_id"].string_value != told["unroll.request_id"].string_value
    assert "cabbage" not in str(collector.spans)


def test_call_over_http_is_a_span_of_its_path(tiny_bundles: dict[Cell, Path]) -> None:
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with collecting() as (collector, endpoint):
        with serve(str(tiny_bundles["gru"]), otel_endpoint=endpoint, http_port=0) as server:
            post(server, "POST", "/v1/completions", {"prompt": "cabbage"}, headers=traced)
        (span,) = collector.spans
    assert (span.name, span.trace_id.hex()) == ("/v1/completions", TRACE)
    told = {each.key: each.value for each in span.attributes}
    assert told["rpc.system"].string_value == "http"
    assert told["unroll.symbols_written"].int_value == 16
    assert "cabbage" not in str(collector.spans)
