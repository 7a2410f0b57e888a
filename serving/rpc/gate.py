"""The gate: the one wrapper around every call, of our service and of health and reflection.

From the outside in: a call gets its record and its id, is counted and traced; its caller is found
out and has to have room; only then its message is read and parsed; its handler answers. On the way
back, whatever was raised becomes a status, here and nowhere else, and the call gets its line in the
log. A call counts as one of its caller until gRPC has sent its answer.
"""

import asyncio
import inspect
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from traceback import clear_frames
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import AbortError, InternalError

from serving.access.callers import Callers, Counted
from serving.access.certificates import identity_of, names_of, shown
from serving.access.tokens import Tokens
from serving.rpc.call import Call, CallCounts, Context, Metadata, Span
from unroll.errors import AuthenticationError, CancelledError, InputError, UnrollError
from unroll.wire import to_status

OWN_PACKAGE = "/unroll.v1."  # health checks and reflection are neither counted nor logged
# Probes and balancers have no token, and learn no more than whether the server is up.
OPEN_SERVICE = "/grpc.health.v1.Health/"

log = logging.getLogger(__name__)

Details = grpc.HandlerCallDetails
Respond = Callable[[Call], Awaitable[Any]]
REQUEST_ID = "x-request-id"
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_BEARER = "bearer "
# As if each call sent a stream: then gRPC calls the handler before a message has come.
_MAKERS = {
    False: grpc.stream_unary_rpc_method_handler,
    True: grpc.stream_stream_rpc_method_handler,
}
MESSAGE_SECONDS = 60.0  # within which a request's message has to arrive whole


def no_span(call: Call) -> AbstractContextManager[None]:
    """Open no span around a call."""
    return nullcontext()


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls through to their handlers, which get a Call in place of gRPC's context.

    Messages are parsed behind it: a stranger's are not looked at, and one that cannot be parsed is
    INVALID_ARGUMENT, where gRPC would say UNKNOWN and show a piece of the parser's mind.

    Args:
        tokens: that callers need; None if they need none.
        callers: keeps account of them.
        strangers: keeps account of the addresses of calls without a valid token.
        counts: counts the calls of our service.
        span: opens what surrounds them in a trace; nothing by default.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        callers: Callers,
        strangers: Callers,
        counts: CallCounts,
        span: Span = no_span,
    ) -> None:
        self._tokens = tokens
        self._callers = callers
        self._strangers = strangers
        self._counts = counts
        self._span = span
        self.running: set[asyncio.Task[Any]] = set()

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no call of our service is running, up to this many seconds."""
        if self.running:
            await asyncio.wait(self.running, timeout=seconds)

    async def intercept_service(
        self,
        continuation: Callable[[Details], Awaitable[Any]],
        handler_call_details: Details,
    ) -> Any:
        """Wrap a call's handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        wrap = self._converses if handler.request_streaming else self._answers
        behave: Any = wrap(handler, handler_call_details)
        make = _MAKERS[handler.response_streaming]
        return make(behave, response_serializer=handler.response_serializer)

    def _answers(
        self, handler: Any, details: grpc.HandlerCallDetails
    ) -> Callable[..., Awaitable[Any]]:
        """Wrap a handler of one request: a coroutine, which may write a stream of answers."""
        inner, parse = handler.unary_unary or handler.unary_stream, handler.request_deserializer
        assert not inspect.isasyncgenfunction(inner), "answers must be written by a coroutine"

        async def answer(_: AsyncIterator[bytes], context: Context) -> Any:
            async def respond(call: Call) -> Any:
                return await inner(parse(await self._read(call)), call)

            return await self._serve(details, context, respond)

        return answer

    async def _read(self, call: Call) -> bytes:
        """Read a call's one message.

        Raises:
            InputError: there is none, or it takes too long to arrive.
        """
        assert call.admitted is not None, "a caller is judged before its message is read"
        try:
            async with asyncio.timeout(MESSAGE_SECONDS), call.admitted.reading:
                data = await call.context.read()
        except TimeoutError as error:
            raise InputError(
                "request", f"did not arrive within {MESSAGE_SECONDS:g} s; send it at once"
            ) from error
        if data is grpc.aio.EOF:
            raise InputError("request", "is missing: the call ended without a message")
        assert isinstance(data, bytes), "the stubs' parsers come after the gate"
        return data

    def _converses(
        self, handler: Any, details: grpc.HandlerCallDetails
    ) -> Callable[..., Awaitable[None]]:
        """Wrap a handler of a stream of requests and answers, an async generator."""
        inner, parse = handler.stream_stream, handler.request_deserializer

        async def parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for data in requests:
                yield parse(data)

        async def converse(requests: AsyncIterator[bytes], context: Context) -> None:
            async def respond(call: Call) -> None:
                async for response in inner(parsed(requests), call):
                    await call.write(response)

            await self._serve(details, context, respond)

        return converse

    async def _serve(self, details: Details, context: Context, respond: Respond) -> Any:
        """Make a call's record, let it be answered, and keep account of it if it is our own."""
        path, metadata = details.method, tuple(details.invocation_metadata or ())
        call = Call(
            context=context,
            metadata=metadata,
            method=path.rpartition("/")[2],
            request_id=_request_id(metadata),
            caller=str(context.peer()),
            began=time.monotonic(),
            deadline=deadline_of(context),
        )
        _task().add_done_callback(partial(self._forget, call))
        if not path.startswith(OWN_PACKAGE):
            return await self._answer(call, path, respond)
        self.running.add(_task())
        self._counts.running[call.method].inc()
        is_answered = False
        try:
            with self._span(call):
                try:
                    answer = await self._answer(call, path, respond)
                    is_answered = True
                finally:
                    call.note_end(is_answered=is_answered)
        finally:
            seconds = time.monotonic() - call.began
            self._counts.end(call, seconds)
            call.log_end(seconds)
        return answer

    async def _answer(self, call: Call, path: str, respond: Respond) -> Any:
        """Admit a call and let it be answered; what is raised becomes a status."""
        try:
            if path.startswith(OWN_PACKAGE):
                await _send_id(call)
            call.admitted = self._admit(call, path)
            return await respond(call)
        except (Exception, asyncio.CancelledError) as error:
            if call.admitted is not None:
                call.admitted.close()  # a status is never waited for
            await _refuse(call, error)

    def _forget(self, call: Call, task: asyncio.Task[Any]) -> None:
        """Count a call no more, whose answer gRPC has sent."""
        self.running.discard(task)
        if call.admitted is not None:
            call.admitted.close()

    def _admit(self, call: Call, path: str) -> Counted:
        """Find out who calls, and count the call as theirs.

        A caller without a name is known by its address. Probes have an account of their own, so
        that a busy caller on the same machine does not make the server look dead; so have watches,
        which last.
        """
        address = "address:" + call.caller.rpartition(":")[0]
        if path.startswith(OPEN_SERVICE):
            call.account = f"{call.method}:{address}"
            return self._callers.admit(call.account)
        if self._tokens is not None:
            name = self._tokens.name_of(_bearer(call))
            if name is None:
                with self._strangers.admit(address):  # one too many is told to wait instead
                    raise AuthenticationError(
                        "a valid token is needed, as metadata `authorization: Bearer TOKEN`; "
                        "the command line reads it from --token-file or UNROLL_TOKEN"
                    )
            call.identity = call.caller = f"token:{name}"
        elif (names := names_of(call.context.auth_context())) is not None:
            if not names:
                raise AuthenticationError(
                    "the client's certificate has no name; it needs a subject alternative name or "
                    "a common name"
                )
            call.identity, call.caller = identity_of(names), shown(names)
        call.account = call.identity or address
        call.hold = partial(self._callers.hold, call.account)
        return self._callers.admit(call.account)


def _task() -> asyncio.Task[Any]:
    """Return gRPC's own task of a call, which also sends what the handler returns."""
    task = asyncio.current_task()
    assert task is not None
    return task


async def _refuse(call: Call, error: BaseException) -> None:
    """Answer what a call raised with a status of the one table.

    Raises:
        AbortError: always, unless the client disconnected or has the status already.
    """
    has_gone = call.context.cancelled()  # by the client, its deadline or the server's stop
    if isinstance(error, AbortError):
        raise error
    if isinstance(error, asyncio.CancelledError):
        if has_gone:
            raise error
        # gRPC would send no status at all, and the client would wait for ever (grpc#29248).
        error = CancelledError("the call was cancelled")
    elif isinstance(error, DecodeError):
        error = InputError(
            "request",
            "is not a message of this method; use a client that was generated from the same proto",
        )
    elif not isinstance(error, UnrollError):
        if has_gone:  # a write to it has failed
            return
        log.error("internal error in call %s", call.request_id, exc_info=error)
    assert isinstance(error, Exception)
    status = to_status(error, call.request_id)
    # The frames that raised it hold the request: megabytes, until cycles are collected.
    clear_frames(error.__traceback__)
    del error
    await call.context.abort_with_status(status)


def deadline_of(context: Context) -> float | None:
    """Return time.monotonic() at a call's deadline; None without one."""
    left: float | None = context.time_remaining()  # None without one, whatever its stub says
    return None if left is None else time.monotonic() + left


def _request_id(metadata: Metadata) -> str:
    """Return the client's id of a call; a new one if it has none that can be put into a log."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _ID.fullmatch(value):
            return value
    return f"{random.getrandbits(64):016x}"  # no secret; to ask the system takes longer


async def _send_id(call: Call) -> None:
    """Tell the client the request id; a client that has gone does not get it."""
    try:
        await call.context.send_initial_metadata(((REQUEST_ID, call.request_id),))
    except Exception as error:
        if not (call.context.cancelled() or isinstance(error, InternalError)):
            raise


def _bearer(call: Call) -> bytes:
    for key, value in call.metadata:
        if key == "authorization" and isinstance(value, str):
            scheme, token = value[: len(_BEARER)], value[len(_BEARER) :]
            return token.strip().encode() if scheme.lower() == _BEARER else b""
    return b""
