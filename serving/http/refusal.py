"""What an error is over HTTP: the status of the one table, with HTTP's number."""

import math
from dataclasses import dataclass

import grpc
from google.rpc.status_pb2 import Status

from unroll.wire import Details, describe

# The numbers of the Connect protocol.
NUMBERS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An error as a client gets it.

    Attributes:
        status: code, message and details.
        details: unpacked.
        code: of the status.
    """

    status: Status
    details: Details
    code: grpc.StatusCode

    @classmethod
    def of(cls, error: Exception, request_id: str) -> "Refusal":
        """Describe an error of a call; what is no error of ours tells nothing."""
        status = describe(error, request_id)
        return cls(status=status, details=Details.of(status), code=_CODES[status.code])

    @property
    def number(self) -> int:
        """HTTP's number of the status."""
        return NUMBERS[self.code]

    @property
    def field(self) -> str | None:
        """The field that is at fault; None where none is."""
        return self.details.fault.field if self.details.bad.field_violations else None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """When to ask again, where that may help, and how to prove who asks."""
        seconds, told = self.details.retry_after, []
        if seconds is not None:
            told += [
                ("retry-after", str(math.ceil(seconds))),
                ("retry-after-ms", str(math.ceil(seconds * 1e3))),
            ]
        if self.code is grpc.StatusCode.UNAUTHENTICATED:
            told.append(("www-authenticate", "Bearer"))
        return told
