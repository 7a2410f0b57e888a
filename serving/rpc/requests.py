"""What is known of one call from its beginning to its end: its id, its line in the log, its counts.

An interceptor around all calls makes a CallRecord; whoever answers the call fills it in through
`current_call`. Prompts and texts are never in it.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc
from grpc.aio import InternalError, ServicerContext

from serving.engine.counts import Tally

REQUEST_ID = "x-request-id"
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
OWN_SERVICE = "/unroll.v1."  # health checks and reflection are neither counted nor logged

log = logging.getLogger("serving.access")

Behaviour = Callable[[Any, ServicerContext[Any, Any]], Awaitable[Any]]


@dataclass(kw_only=True, slots=True)
class CallRecord:
    """One call.

    Attributes:
        method: its name without the service.
        request_id: the client's, or one of 16 random hex digits.
        caller: its address, or the identity that its token or certificate proves.
        began: time.monotonic() when it came.
        model: that answered; empty if it came to none.
        symbols_read: of its prompt or scored text.
        symbols_written: in its answer so far.
        code: name of the status that it ended with.
    """

    method: str
    request_id: str
    caller: str
    began: float
    model: str = ""
    symbols_read: int = 0
    symbols_written: int = 0
    code: str = "UNKNOWN"


Span = Callable[[CallRecord, ServicerContext[Any, Any]], AbstractContextManager[None]]


def _no_span(
    record: CallRecord, context: ServicerContext[Any, Any]
) -> AbstractContextManager[None]:
    return nullcontext()


_current: ContextVar[CallRecord | None] = ContextVar("call", default=None)


def current_call() -> CallRecord:
    """Return the record of the call that is being answered; outside of any, one that is lost."""
    return _current.get() or CallRecord(method="", request_id="", caller="", began=0.0)


class CallCounts:
    """Counts calls by how they ended; all on one event loop.

    Attributes:
        running: calls under way, by method.
        ended: calls by method and code.
        seconds: how long they took, by method.
    """

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, Tally] = {}

    def end(self, method: str, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        self.running[method] -= 1
        self.ended[method, code] += 1
        self.seconds.setdefault(method, Tally(_SECONDS)).add(seconds)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives each call of the service its record, counts it and writes one line when it has ended.

    It should be the first interceptor, so that calls which others refuse are counted, too.

    Args:
        counts: to keep.
        span: opens what surrounds a call in a trace; nothing by default.
    """

    def __init__(self, counts: CallCounts, span: Span | None = None) -> None:
        self._counts = counts
        self._span = span or _no_span

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a call's handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or not path.startswith(OWN_SERVICE):
            return handler
        method = path.rpartition("/")[2]
        wrapped = handler.unary_stream or handler.unary_unary

        async def behave(request: Any, context: ServicerContext[Any, Any]) -> Any:
            record = _record(method, context)
            _current.set(record)  # gRPC gives each call a task, and so a context, of its own
            self._counts.running[method] += 1
            try:
                with self._span(record, context):
                    return await _answer(wrapped, request, context, record)
            finally:
                self._end(record)

        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            behave,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _end(self, record: CallRecord) -> None:
        seconds = time.monotonic() - record.began
        self._counts.end(record.method, record.code, seconds)
        facts = {
            "method": record.method,
            "code": record.code,
            "model": record.model,
            "symbols_read": record.symbols_read,
            "symbols_written": record.symbols_written,
            "seconds": round(seconds, 6),
            "caller": record.caller,
            "request_id": record.request_id,
        }
        log.info("call ended", extra=facts)


async def _answer(
    behave: Behaviour, request: Any, context: ServicerContext[Any, Any], record: CallRecord
) -> Any:
    """Answer a call, and note in its record how it ended."""
    try:
        await _send_id(context, record)
        answer = await behave(request, context)
        record.code = _code_of(context, grpc.StatusCode.OK)
        return answer
    except Exception:  # a status, or one that a client which has gone does not get any more
        record.code = _code_of(context, grpc.StatusCode.UNKNOWN)
        raise
    except asyncio.CancelledError:
        record.code = _cancelled(context)
        raise


async def _send_id(context: ServicerContext[Any, Any], record: CallRecord) -> None:
    try:
        await context.send_initial_metadata(((REQUEST_ID, record.request_id),))
    except Exception as error:
        has_gone = context.cancelled() or isinstance(error, InternalError)  # the client
        if not has_gone:
            raise


def _record(method: str, context: ServicerContext[Any, Any]) -> CallRecord:
    return CallRecord(
        method=method,
        request_id=_request_id(context),
        caller=_caller(context),
        began=time.monotonic(),
    )


def _request_id(context: ServicerContext[Any, Any]) -> str:
    """Return the client's id of a call; a new one if it has none that can be put into a log."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _ID.fullmatch(value):
            return value
    return secrets.token_hex(8)


def _caller(context: ServicerContext[Any, Any]) -> str:
    identities = context.peer_identities()
    if not identities:
        return str(context.peer())
    return ",".join(sorted(identity.decode(errors="replace") for identity in identities))


def _code_of(context: ServicerContext[Any, Any], default: grpc.StatusCode) -> str:
    if context.cancelled():
        return _cancelled(context)
    # None or an int, whatever its stub says.
    code: grpc.StatusCode | int | None = context.code()
    if isinstance(code, int):
        return _CODES[code].name
    return default.name if code is None else code.name


def _cancelled(context: ServicerContext[Any, Any]) -> str:
    left: float | None = context.time_remaining()
    is_late = left is not None and left <= 0
    return (grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED).name
