"""Traces for OpenTelemetry: one span a call, a child of the caller's if it sent `traceparent`.

The packages come with the extra `otel` and are imported only where an endpoint is set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from serving.access.call import Call
from unroll.errors import MissingExtraError, SettingsError, lacking
from unroll.wire import SERVICE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE_NAME = "unroll"
_FAILURES = {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED"}


class Tracing:
    """Opens spans.

    Args:
        provider: where they go.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("serving")

    @contextmanager
    def span(self, call: Call) -> Iterator[None]:
        """Surround a call; at its end, the span tells what the log line tells."""
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = dict(call.metadata)
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(
            call.method if call.method.startswith("/") else f"{SERVICE}/{call.method}",
            context=parent,
            kind=SpanKind.SERVER,
            record_exception=False,  # its message may quote the prompt
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                span.set_attributes(
                    {
                        "rpc.system": call.system,
                        "rpc.method": call.method,
                        "rpc.grpc.status_code": grpc.StatusCode[call.code].value[0],
                        "unroll.model": call.model,
                        "unroll.symbols_read": call.symbols_read,
                        "unroll.symbols_written": call.symbols_written,
                        "unroll.request_id": call.request_id,
                    }
                )
                if call.code in _FAILURES:
                    span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def open_tracing(endpoint: str | None) -> Tracing | None:
    """Send traces to an endpoint; None does not.

    Args:
        endpoint: as http://HOST:4317 or https://HOST:4317.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
        SettingsError: it is no such address.
    """
    if endpoint is None:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise SettingsError(
            f"otel_endpoint = {endpoint!r}: must be http://HOST:PORT or https://HOST:PORT; change "
            "--otel-endpoint"
        )
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError(lacking("--otel-endpoint", error.name, "otel")) from error
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE_NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return Tracing(provider)
