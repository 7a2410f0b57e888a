"""What errors are called on the wire: one side writes them, the other reads them.

Every failure is a status whose details hold one google.rpc.ErrorInfo (domain `unroll`), one
BadRequest that names the field where the input is at fault, one RetryInfo where the same request
may succeed a little later, and one RequestInfo with the id of the call in the server's log.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from unroll.errors import (
    AuthenticationError,
    CallerBusyError,
    CancelledError,
    CapsuleError,
    ClosedError,
    DeadlineError,
    ForeignCapsuleError,
    InputError,
    OverloadedError,
    OwnerError,
    PositionError,
    RateError,
    ServerError,
    SessionBusyError,
    SessionEndedError,
    SessionEvictedError,
    SessionExpiredError,
    SessionLimitError,
    SessionUnknownError,
    StoreError,
    UnavailableError,
    UnknownModelError,
    UnknownSymbolError,
    UnrollError,
)
from unroll.terms import WITHIN_SAMPLING
from unroll.v1 import text_generation_pb2 as pb

AFFINITY = "x-unroll-affinity"  # metadata that is the same for all calls of a session
SERVICE: str = pb.DESCRIPTOR.services_by_name["TextGenerationService"].full_name

# Bytes of a message of many texts that the server takes; told when such a call begins.
LONGEST = "x-unroll-longest-message"

DOMAIN = "unroll"
RETRY_AFTER = 1.0  # seconds, where an error tells no time of its own
# A status travels in HTTP/2 headers, of which gRPC takes 8 KiB: percent-encoded (up to three
# bytes for one) and twice in base64. A name that a caller made up may be of any length.
MESSAGE_BYTES_AT_MOST = 1000
INTERNAL_MESSAGE = "internal error; details are only in the server log"


@dataclass(frozen=True, kw_only=True)
class StatusRow:
    """How one class of errors travels.

    Attributes:
        error: the class; its subclasses without a row of their own travel as it does.
        code: the gRPC status code.
        reason: ErrorInfo's reason.
        retryable: whether the same request may succeed a little later, here or elsewhere.
    """

    error: type[UnrollError]
    code: grpc.StatusCode
    reason: str
    retryable: bool = False


@dataclass(frozen=True)
class Details:
    """What came with a status."""

    info: ErrorInfo = field(default_factory=ErrorInfo)
    bad: BadRequest = field(default_factory=BadRequest)
    request: RequestInfo = field(default_factory=RequestInfo)
    retry: RetryInfo = field(default_factory=RetryInfo)

    @classmethod
    def of(cls, status: Status) -> "Details":
        """Unpack a status's details."""
        found = cls()
        parts = (found.info, found.bad, found.request, found.retry)
        for detail in status.details:
            _ = any(detail.Unpack(part) for part in parts)
        return found

    @property
    def retry_after(self) -> float | None:
        """In how many seconds to ask again; None where the server did not tell."""
        if not self.retry.HasField("retry_delay"):
            return None
        return max(float(self.retry.retry_delay.ToMicroseconds()) / 1e6, 0.0)

    @property
    def fault(self) -> BadRequest.FieldViolation:
        """The field that is at fault."""
        violations = self.bad.field_violations
        return violations[0] if violations else BadRequest.FieldViolation(field="request")


_CODE = grpc.StatusCode
_CODES = {code.value[0]: code for code in _CODE}
TABLE = (
    StatusRow(error=InputError, code=_CODE.INVALID_ARGUMENT, reason="INVALID_FIELD"),
    StatusRow(error=UnknownSymbolError, code=_CODE.INVALID_ARGUMENT, reason="UNKNOWN_SYMBOL"),
    StatusRow(error=UnknownModelError, code=_CODE.NOT_FOUND, reason="UNKNOWN_MODEL"),
    StatusRow(error=CapsuleError, code=_CODE.INVALID_ARGUMENT, reason="CAPSULE_INVALID"),
    StatusRow(error=ForeignCapsuleError, code=_CODE.FAILED_PRECONDITION, reason="CAPSULE_FOREIGN"),
    StatusRow(error=OwnerError, code=_CODE.PERMISSION_DENIED, reason="CAPSULE_OWNER"),
    StatusRow(error=SessionUnknownError, code=_CODE.NOT_FOUND, reason="SESSION_UNKNOWN"),
    StatusRow(error=SessionEndedError, code=_CODE.NOT_FOUND, reason="SESSION_ENDED"),
    StatusRow(error=SessionExpiredError, code=_CODE.NOT_FOUND, reason="SESSION_EXPIRED"),
    StatusRow(error=SessionEvictedError, code=_CODE.NOT_FOUND, reason="SESSION_EVICTED"),
    StatusRow(error=SessionBusyError, code=_CODE.ABORTED, reason="SESSION_BUSY", retryable=True),
    StatusRow(error=SessionLimitError, code=_CODE.RESOURCE_EXHAUSTED, reason="SESSION_LIMIT"),
    StatusRow(error=PositionError, code=_CODE.ABORTED, reason="SESSION_POSITION"),
    StatusRow(error=StoreError, code=_CODE.UNAVAILABLE, reason="STORE_FAILED", retryable=True),
    StatusRow(
        error=OverloadedError, code=_CODE.RESOURCE_EXHAUSTED, reason="OVERLOADED", retryable=True
    ),
    StatusRow(
        error=CallerBusyError, code=_CODE.RESOURCE_EXHAUSTED, reason="CALLER_BUSY", retryable=True
    ),
    StatusRow(error=RateError, code=_CODE.RESOURCE_EXHAUSTED, reason="CALLER_RATE", retryable=True),
    StatusRow(error=AuthenticationError, code=_CODE.UNAUTHENTICATED, reason="UNAUTHENTICATED"),
    StatusRow(error=DeadlineError, code=_CODE.DEADLINE_EXCEEDED, reason="DEADLINE"),
    StatusRow(error=CancelledError, code=_CODE.CANCELLED, reason="CANCELLED"),
    StatusRow(error=ClosedError, code=_CODE.UNAVAILABLE, reason="CLOSED", retryable=True),
)
_BY_CLASS = {row.error: row for row in TABLE}
_BY_REASON = {(row.code, row.reason): row for row in TABLE}
# What the message holds where this process itself has cancelled the call or closed the channel.
LOCAL = ("Locally cancelled", "Channel closed")
# What gRPC itself says, without our details.
_BY_CODE: dict[grpc.StatusCode, type[UnrollError]] = {
    _CODE.DEADLINE_EXCEEDED: DeadlineError,
    _CODE.CANCELLED: CancelledError,
    _CODE.UNAVAILABLE: UnavailableError,
}
_ADVICE: dict[type[UnrollError], str] = {
    DeadlineError: "; allow a longer timeout or ask for less",
    UnavailableError: "; is a server running there?",
}
# What gRPC says of a port that speaks HTTP/1.1.
_NO_HTTP2 = "Failed parsing HTTP/2"
_HTTP_ADVICE = "; this looks like an HTTP port; give the server's gRPC port"


def to_status(error: Exception, request_id: str = "") -> grpc.Status:
    """Translate an error into the status that a client of gRPC gets; arguments as describe."""
    made: grpc.Status = rpc_status.to_status(describe(error, request_id))
    return made


def describe(error: Exception, request_id: str = "") -> Status:
    """Translate an error into the code, the message and the details that a client gets.

    Args:
        error: anything; what has no row in the table becomes INTERNAL and tells nothing.
        request_id: of the call; empty for none.
    """
    row = next((_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS), None)
    if row is None or not isinstance(error, UnrollError):
        told = f"{INTERNAL_MESSAGE} (request {request_id})" if request_id else INTERNAL_MESSAGE
        return _status(_CODE.INTERNAL, told, [_info("INTERNAL"), *_named(request_id)])
    position = {"position": str(error.actual)} if isinstance(error, PositionError) else {}
    details: list[Message] = [_info(row.reason, position), *_named(request_id)]
    if isinstance(error, InputError):
        violation = BadRequest.FieldViolation(
            field=error.field, description=_bounded(error.problem)
        )
        details.append(BadRequest(field_violations=[violation]))
    if row.retryable:
        seconds = RETRY_AFTER if error.retry_after is None else error.retry_after
        details.append(RetryInfo(retry_delay=timedelta(seconds=seconds)))
    return _status(row.code, _bounded(str(error)), details)


def from_rpc_error(error: grpc.RpcError, target: str) -> UnrollError:
    """Translate what a call raised into the error that the server raised.

    A field has the name of the option: `temperature` for the proto's `sampling.temperature`.

    Args:
        error: of a blocking or an asyncio call.
        target: what to call the server in a message.
    """
    return _read_error(error.code(), error.details() or "", target, _read_details(error))


def write_item_error(error: UnrollError) -> pb.ItemError:
    """Translate the error of one item of many."""
    status = describe(error)
    return pb.ItemError(code=status.code, message=status.message, details=status.details)


def read_item_error(message: pb.ItemError, target: str) -> UnrollError:
    """Translate why one item of many failed into the error that the server raised."""
    code = _CODES.get(message.code, _CODE.UNKNOWN)
    details = Details.of(Status(details=message.details))
    return _read_error(code, message.message, target, details)


def _read_error(code: grpc.StatusCode, message: str, target: str, details: Details) -> UnrollError:
    made = _make_error(code, message, target, details)
    made.request_id = details.request.request_id
    made.retry_after = details.retry_after
    return made


def _make_error(code: grpc.StatusCode, message: str, target: str, details: Details) -> UnrollError:
    info, fault = details.info, details.fault
    row = _BY_REASON.get((code, info.reason)) if info.domain == DOMAIN else None
    if row is None:
        kind = _BY_CODE.get(code, ServerError)
        if kind is CancelledError and not any(each in message for each in LOCAL):
            kind = UnavailableError  # a server that stops, or a proxy, has cut the call
        advice = _HTTP_ADVICE if _NO_HTTP2 in message else _ADVICE.get(kind, "")
        return kind(f"{target}: {code.name}: {message}{advice}")
    if issubclass(row.error, PositionError):
        return row.error(message, int(info.metadata["position"]))
    if issubclass(row.error, InputError):
        return row.error(fault.field.removeprefix(WITHIN_SAMPLING), fault.description)
    return row.error(message)


def _named(request_id: str) -> list[Message]:
    return [RequestInfo(request_id=request_id)] if request_id else []


def _info(reason: str, metadata: dict[str, str] | None = None) -> ErrorInfo:
    return ErrorInfo(domain=DOMAIN, reason=reason, metadata=metadata)


def _status(code: grpc.StatusCode, message: str, details: Iterable[Message]) -> Status:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bounded(message: str) -> str:
    encoded = message.encode(errors="replace")
    if len(encoded) <= MESSAGE_BYTES_AT_MOST:
        return encoded.decode()
    return encoded[:MESSAGE_BYTES_AT_MOST].decode(errors="ignore") + "…"


def _read_details(error: grpc.RpcError) -> Details:
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # details of some other make: as good as none
        status = None
    return Details.of(Status() if status is None else status)
