"""The one table between errors and gRPC statuses: the server writes them, the client reads them.

Every failure is a status whose details hold one google.rpc.ErrorInfo (domain `unroll`), one
BadRequest that names the field where the input is at fault, and one RetryInfo where the same
request may succeed a little later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from serving.errors import (
    CancelledError,
    CapsuleError,
    ClosedError,
    DeadlineError,
    ForeignCapsuleError,
    InputError,
    OverloadedError,
    OwnerError,
    PositionError,
    ServerError,
    SessionBusyError,
    SessionEndedError,
    SessionEvictedError,
    SessionExpiredError,
    SessionUnknownError,
    UnavailableError,
    UnknownModelError,
    UnknownSymbolError,
    UnrollError,
)

DOMAIN = "unroll"
RETRY_AFTER = timedelta(seconds=1)
# A status travels in HTTP/2 headers, of which gRPC takes 8 KiB: percent-encoded (up to three
# bytes for one) and twice in base64. A name that a caller made up may be of any length.
MESSAGE_BYTES_AT_MOST = 1000
INTERNAL_MESSAGE = "internal error"


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


_CODE = grpc.StatusCode
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
    StatusRow(error=PositionError, code=_CODE.ABORTED, reason="SESSION_POSITION"),
    StatusRow(
        error=OverloadedError, code=_CODE.RESOURCE_EXHAUSTED, reason="OVERLOADED", retryable=True
    ),
    StatusRow(error=DeadlineError, code=_CODE.DEADLINE_EXCEEDED, reason="DEADLINE"),
    StatusRow(error=CancelledError, code=_CODE.CANCELLED, reason="CANCELLED"),
    StatusRow(error=ClosedError, code=_CODE.UNAVAILABLE, reason="CLOSED", retryable=True),
)
_BY_CLASS = {row.error: row for row in TABLE}
_BY_REASON = {(row.code, row.reason): row for row in TABLE}
# What gRPC itself says, without our details.
_BY_CODE: dict[grpc.StatusCode, type[UnrollError]] = {
    _CODE.DEADLINE_EXCEEDED: DeadlineError,
    _CODE.CANCELLED: CancelledError,
    _CODE.UNAVAILABLE: UnavailableError,
}


def to_status(error: Exception) -> grpc.Status:
    """Translate an error into the status that a client gets.

    Args:
        error: anything; what has no row in the table becomes INTERNAL and tells nothing.
    """
    row = next((_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS), None)
    if row is None:
        return _status(_CODE.INTERNAL, INTERNAL_MESSAGE, [_info("INTERNAL")])
    position = {"position": str(error.actual)} if isinstance(error, PositionError) else {}
    details: list[Message] = [_info(row.reason, position)]
    if isinstance(error, InputError):
        violation = BadRequest.FieldViolation(
            field=error.field, description=_bounded(error.problem)
        )
        details.append(BadRequest(field_violations=[violation]))
    if row.retryable:
        details.append(RetryInfo(retry_delay=RETRY_AFTER))
    return _status(row.code, _bounded(str(error)), details)


def from_rpc_error(error: grpc.RpcError, target: str) -> UnrollError:
    """Translate what a call raised into the error that the server raised.

    Args:
        error: of a blocking or an asyncio call.
        target: what to call the server in a message.
    """
    code, message = error.code(), error.details() or ""
    info, fault = _read_details(error)
    row = _BY_REASON.get((code, info.reason)) if info.domain == DOMAIN else None
    if row is None:
        kind = _BY_CODE.get(code, ServerError)
        advice = "; is a server running there?" if kind is UnavailableError else ""
        return kind(f"{target}: {code.name}: {message}{advice}")
    if issubclass(row.error, PositionError):
        return row.error(message, int(info.metadata["position"]))
    if issubclass(row.error, InputError):
        return row.error(fault.field, fault.description)
    return row.error(message)


def _info(reason: str, metadata: dict[str, str] | None = None) -> ErrorInfo:
    return ErrorInfo(domain=DOMAIN, reason=reason, metadata=metadata)


def _status(code: grpc.StatusCode, message: str, details: Iterable[Message]) -> grpc.Status:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    made: grpc.Status = rpc_status.to_status(status)
    return made


def _bounded(message: str) -> str:
    encoded = message.encode(errors="replace")
    if len(encoded) <= MESSAGE_BYTES_AT_MOST:
        return encoded.decode()
    return encoded[:MESSAGE_BYTES_AT_MOST].decode(errors="ignore") + "…"


def _read_details(error: grpc.RpcError) -> tuple[ErrorInfo, BadRequest.FieldViolation]:
    info, request = ErrorInfo(), BadRequest()
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # details of some other make: as good as none
        status = None
    for detail in status.details if status is not None else ():
        _ = detail.Unpack(info) or detail.Unpack(request)
    violations = request.field_violations
    return info, violations[0] if violations else BadRequest.FieldViolation(field="request")
