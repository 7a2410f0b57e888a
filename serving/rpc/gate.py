"""gRPC's side of the gate: the one wrapper around every call, of our service, health, reflection.

From the outside in: a call gets its record and its id, and passes the gate that all doors share;
only then its message is read and parsed; its handler answers. On the way back, whatever was raised
becomes a status, here and nowhere else.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import AbortError, InternalError

from serving.access.gate import (
    MESSAGE_SECONDS,
    REQUEST_ID,
    Gate,
    release_frames,
    request_id_of,
)
from serving.rpc.call import Context, RpcCall
from unroll.errors import CancelledError, InputError, UnrollError
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import LONGEST, SERVICE, to_status

# Probes and balancers have no token, and learn no more than whether the server is up.
OPEN_SERVICE = "/grpc.health.v1.Health/"
METHODS = [each.name for each in pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods]
PATHS = frozenset(f"/{SERVICE}/{name}" for name in METHODS)

log = logging.getLogger(__name__)

Details = grpc.HandlerCallDetails
Respond = Callable[[RpcCall], Awaitable[Any]]
Told = tuple[tuple[str, str], ...]
# As if each call sent a stream: then gRPC calls the handler before a message has come.
_MAKERS = {
    False: grpc.stream_unary_rpc_method_handler,
    True: grpc.stream_stream_rpc_method_handler,
}

# Millions of strings or numbers take 0.2 s to parse, and everybody waits.
LONGEST_MESSAGE = 2**16


class RpcGate(grpc.GenericRpcHandler):
    """Lets calls through to their handlers, which get an RpcCall in place of gRPC's context.

    Services are added to it as to a server, and it is added to the server. An interceptor would do
    the same, with one coroutine more a call.

    Messages are parsed behind it: a stranger's are not looked at, and one that cannot be parsed is
    INVALID_ARGUMENT, where gRPC would say UNKNOWN and show a piece of the parser's mind.

    Args:
        gate: that all doors share.
        longest: bytes of a message that methods take; LONGEST_MESSAGE where nothing else is said.
        own: paths of the methods that are counted and logged; health checks and reflection are not.
        open_paths: of methods that need no token, beside health checks.
    """

    def __init__(
        self,
        gate: Gate,
        longest: Mapping[str, int],
        own: frozenset[str] = PATHS,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self._gate = gate
        self._longest = longest
        self._own = own
        self._open_paths = open_paths
        self._services: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add handlers of a service."""
        self._services.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Leave out what the generic handlers do, too.

        For each registered method, gRPC's server on asyncio waits for the next call of its own, and
        sets up all these waits anew with every call: a twentieth of what a short text costs.
        """

    def service(self, details: Details) -> Any:
        """Return a call's handler behind the gate; see grpc.GenericRpcHandler."""
        offers = (each.service(details) for each in self._services)
        handler: Any = next((offer for offer in offers if offer is not None), None)
        if handler is None:
            return None
        wrap = self._converses if handler.request_streaming else self._answers
        behave: Any = wrap(handler, details)
        make = _MAKERS[handler.response_streaming]
        return make(behave, response_serializer=handler.response_serializer)

    def _answers(
        self, handler: Any, details: grpc.HandlerCallDetails
    ) -> Callable[..., Awaitable[Any]]:
        """Wrap a handler of one request: a coroutine, which may write a stream of answers."""
        inner, parse = handler.unary_unary or handler.unary_stream, handler.request_deserializer
        assert not inspect.isasyncgenfunction(inner), "answers must be written by a coroutine"

        is_whole = not handler.response_streaming

        async def answer(_: AsyncIterator[bytes], context: Context) -> Any:
            async def respond(call: RpcCall) -> Any:
                return await inner(parse(await self._read(call)), call)

            return await self._serve(details, context, respond, is_whole=is_whole)

        return answer

    async def _read(self, call: RpcCall) -> bytes:
        """Read a call's one message.

        Raises:
            InputError: there is none, or it takes too long to arrive or to parse.
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
        self._check_size(call, data)
        return data

    def _check_size(self, call: RpcCall, data: bytes) -> None:
        longest = self._longest.get(call.method, LONGEST_MESSAGE)
        if len(data) > longest:
            raise InputError(
                "request", f"has {len(data)} bytes; {call.method} takes {longest} here; send less"
            )

    def _converses(
        self, handler: Any, details: grpc.HandlerCallDetails
    ) -> Callable[..., Awaitable[None]]:
        """Wrap a handler of a stream of requests and answers.

        It is an async generator, or a coroutine that writes the answers itself.
        """
        inner, parse = handler.stream_stream, handler.request_deserializer

        async def parsed(requests: AsyncIterator[bytes], call: RpcCall) -> AsyncIterator[Any]:
            async for data in requests:
                self._check_size(call, data)
                yield parse(data)

        async def converse(requests: AsyncIterator[bytes], context: Context) -> None:
            async def respond(call: RpcCall) -> None:
                if inspect.iscoroutinefunction(inner):
                    await inner(parsed(requests, call), call)
                    return
                # A cancelled write closes the generator at once, and what it holds is free.
                async with aclosing(inner(parsed(requests, call), call)) as responses:
                    async for response in responses:
                        await call.write(response)

            method = details.method.rpartition("/")[2]
            told = ((LONGEST, str(self._longest.get(method, LONGEST_MESSAGE))),)
            await self._serve(details, context, respond, told)

        return converse

    async def _serve(
        self,
        details: Details,
        context: Context,
        respond: Respond,
        told: Told = (),
        *,
        is_whole: bool = False,
    ) -> Any:
        """Make a call's record, let it be answered, and keep account of it if it is our own.

        Args:
            details: of the call.
            context: likewise.
            respond: handles it.
            told: what the client of a call that is admitted learns at once, beside its id.
            is_whole: whether the answer is one message; then the id comes with it.
        """
        path, metadata = details.method, tuple(details.invocation_metadata or ())
        call = RpcCall(
            context=context,
            metadata=metadata,
            method=path.rpartition("/")[2],
            caller=str(context.peer()),
            began=time.monotonic(),
            deadline=deadline_of(context),
            request_id=request_id_of(metadata),
        )
        self._gate.close_at_end(call)
        refuse = partial(_refuse, call)
        if path not in self._own:
            is_probe = path.startswith(OPEN_SERVICE) or path in self._open_paths
            admit = self._gate.admit_probe if is_probe else self._gate.admit
            return await self._gate.answer(call, admit, partial(respond, call), refuse)

        async def respond_with_id() -> Any:
            if is_whole:  # to send it before would take a fourth of what such a call costs
                context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            else:
                await _send_id(call, told)
            return await respond(call)

        async def refuse_with_id(error: BaseException) -> None:
            if call.admitted is None or is_whole:
                await _send_id(call)
            await refuse(error)

        return await self._gate.serve(call, respond_with_id, refuse_with_id)


async def _refuse(call: RpcCall, error: BaseException) -> None:
    """Answer what a call raised with a status of the one table.

    Raises:
        AbortError: always, unless the client disconnected or has the status already.
    """
    if isinstance(error, InternalError):  # of an answer, which gRPC could not send any more
        call.has_gone = True
    # By the client, its deadline or the server's stop.
    has_gone = call.has_gone or call.context.cancelled()
    if isinstance(error, AbortError):
        raise error
    if isinstance(error, asyncio.CancelledError):
        if has_gone:
            raise error
        # gRPC would send no status at all, and the client would wait for ever (grpc#29248).
        error = CancelledError("the call was cancelled")
    elif call.has_gone:
        raise asyncio.CancelledError from error
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
    release_frames(error)
    del error
    await call.context.abort_with_status(status)


def deadline_of(context: Context) -> float | None:
    """Return time.monotonic() at a call's deadline; None without one."""
    left: float | None = context.time_remaining()  # None without one, whatever its stub says
    return None if left is None else time.monotonic() + left


async def _send_id(call: RpcCall, told: Told = ()) -> None:
    """Tell the client the request id, and what else there is to tell.

    Raises:
        asyncio.CancelledError: it has gone. With a status, gRPC would try to send this once more,
            and never free what it sends.
    """
    try:
        await call.context.send_initial_metadata(((REQUEST_ID, call.request_id), *told))
    except (Exception, asyncio.CancelledError) as error:
        is_told = isinstance(error, InternalError | asyncio.CancelledError)
        if not (is_told or call.context.cancelled()):  # which may know it later
            raise
        call.has_gone = True
        raise asyncio.CancelledError from error
