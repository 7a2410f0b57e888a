"""Every error travels and comes back as what it was."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError, Metadata

from serving.settings import ServerSettings
from unroll import errors
from unroll.errors import (
    AuthenticationError,
    EngineError,
    InputError,
    OverloadedError,
    PositionError,
    RateError,
    ServerError,
    SessionError,
    UnavailableError,
    UnknownModelError,
    UnrollError,
)
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import (
    DOMAIN,
    INTERNAL_MESSAGE,
    MESSAGE_BYTES_AT_MOST,
    TABLE,
    from_rpc_error,
    to_status,
)
from unroll.wire_terms import (
    CAPSULES,
    FINISH_REASONS,
    UNKNOWN_SYMBOLS,
    WRITTEN_CAPSULES,
    WRITTEN_FINISH_REASONS,
    WRITTEN_UNKNOWN_SYMBOLS,
)


def over_the_wire(status: grpc.Status) -> AioRpcError:
    return AioRpcError(
        status.code, Metadata(), Metadata(*(status.trailing_metadata or ())), status.details
    )


def details_of(status: grpc.Status) -> dict[type, object]:
    (_, packed), *_ = status.trailing_metadata or ()
    found: dict[type, object] = {}
    for kind in (ErrorInfo, BadRequest, RetryInfo):
        for detail in Status.FromString(packed).details:
            message = kind()
            if detail.Unpack(message):
                found[kind] = message
    return found


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.reason)
def test_error_comes_back_as_it_went(row) -> None:  # type: ignore[no-untyped-def]
    is_input, is_position = (issubclass(row.error, kind) for kind in (InputError, PositionError))
    if is_position:
        error = row.error("why\nnot 한?", 17)
    else:
        error = row.error(*("stop[3]", "must be “so”, got 🐈") if is_input else ("why\nnot 한?",))
    status = to_status(error)
    assert status.code is row.code
    found = details_of(status)
    metadata = {"position": "17"} if is_position else {}
    assert found[ErrorInfo] == ErrorInfo(domain=DOMAIN, reason=row.reason, metadata=metadata)
    assert (BadRequest in found) == is_input
    assert (RetryInfo in found) == row.retryable
    back = from_rpc_error(over_the_wire(status), "there")
    assert type(back) is row.error
    assert str(back) == str(error)
    if isinstance(back, InputError):
        assert back.field == "stop[3]"
    if isinstance(back, PositionError):
        assert back.actual == 17


def test_every_input_and_engine_error_has_a_row_of_its_own() -> None:
    classes = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, InputError | EngineError | SessionError | AuthenticationError)
    } - {EngineError, SessionError}
    assert classes <= {row.error for row in TABLE}
    assert len({(row.code, row.reason) for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (OverloadedError("full"), 1.0),  # where the server knows nothing better
        (RateError("slower", 2.5), 2.5),
        (RateError("slower", 0.0), 0.0),
        (AuthenticationError("who?"), None),  # asking again does not help
    ],
)
def test_time_to_wait_travels(error: UnrollError, seconds: float | None) -> None:
    back = from_rpc_error(over_the_wire(to_status(error)), "there")
    assert back.retry_after == seconds


@pytest.mark.parametrize(
    ("written", "read", "enum"),
    [
        (WRITTEN_UNKNOWN_SYMBOLS, UNKNOWN_SYMBOLS, pb.UnknownSymbols),
        (WRITTEN_CAPSULES, CAPSULES, pb.CapsuleDelivery),
        (WRITTEN_FINISH_REASONS, FINISH_REASONS, pb.FinishReason),
    ],
    ids=lambda value: getattr(getattr(value, "DESCRIPTOR", None), "name", ""),
)
def test_every_number_of_an_enum_has_one_word_and_every_word_a_number(
    written: dict[Enum, int], read: dict[int, Enum], enum: Any
) -> None:
    words: type[Enum] = type(next(iter(written)))
    assert written.keys() == {*words}
    assert all(enum.Name(number).endswith(f"_{word.name}") for word, number in written.items())
    assert {*enum.values()} - {0} == read.keys() - {0}
    assert all(read[number] is word for word, number in written.items())


@pytest.mark.parametrize("error", [ValueError("secret path"), errors.BundleError("secret path")])
def test_what_has_no_row_tells_nothing(error: Exception) -> None:
    status = to_status(error)
    assert (status.code, status.details) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert str(to_status(error, "q7").details).endswith("(request q7)")
    assert "secret" not in str(status.trailing_metadata)
    assert type(from_rpc_error(over_the_wire(status), "there")) is ServerError


def test_long_message_is_cut_between_symbols() -> None:
    status = to_status(UnknownModelError("model", "no model " + "한" * 100_000))
    assert len(status.details.encode()) <= MESSAGE_BYTES_AT_MOST + len("…".encode())
    assert status.details.endswith("한…")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineError),
        (grpc.StatusCode.CANCELLED, UnavailableError),  # cut, and not by this side: see below
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerError),  # a message too large is no overload
        (grpc.StatusCode.UNIMPLEMENTED, ServerError),
    ],
)
def test_status_without_our_details_is_told_by_its_code(
    code: grpc.StatusCode, kind: type[UnrollError]
) -> None:
    error = from_rpc_error(AioRpcError(code, Metadata(), Metadata(), "dark"), "there:1")
    assert type(error) is kind
    assert str(error).startswith(f"there:1: {code.name}: dark")


@contextmanager
def serve_nothing() -> Iterator[str]:
    """A port where calls are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_call_that_this_side_cancelled_is_no_break_of_the_server() -> None:
    with serve_nothing() as address, grpc.insecure_channel(address) as channel:
        begin: Any = channel.unary_stream("/a/b")
        call = begin(b"")
        call.cancel()
        with pytest.raises(grpc.RpcError) as cancelled:
            next(call)
        closing = begin(b"")
        channel.close()
        with pytest.raises(grpc.RpcError) as closed:
            next(closing)
    for error in (cancelled.value, closed.value):
        assert type(from_rpc_error(error, "there")) is errors.CancelledError


@pytest.mark.parametrize("junk", [b"\xff\xff", Status(code=3, message="other").SerializeToString()])
def test_details_of_another_make_are_as_good_as_none(junk: bytes) -> None:
    metadata = Metadata(("grpc-status-details-bin", junk))
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), metadata, "dark")
    assert type(from_rpc_error(error, "there")) is UnavailableError


def test_documented_table_is_the_table_and_the_limits_are_the_settings() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "errors.md").read_text(
        encoding="utf-8"
    )
    rows = [
        f"| `{row.reason}` | {row.code.name} | {'yes' if row.retryable else 'no'} "
        f"| `{row.error.__name__}` | {(row.error.__doc__ or '').strip().splitlines()[0]} |"
        for row in TABLE
    ]
    told = [line for line in text.splitlines() if re.match(r"\| `[A-Z_]+` \| [A-Z]", line)]
    assert told == rows
    flags = re.findall(r"`--([a-z-]+)`", text)
    assert {flag.replace("-", "_") for flag in flags} <= set(ServerSettings.__dataclass_fields__)
