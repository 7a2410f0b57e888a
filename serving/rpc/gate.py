"""The gate that every call passes first: who calls, how often, and with what kind of bytes."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from serving.access.callers import Callers, identify
from serving.access.tokens import Tokens
from serving.rpc.requests import current_call
from unroll.errors import AuthenticationError, InputError, UnrollError
from unroll.wire import to_status

# Probes and balancers have no token, and learn no more than whether the server is up.
OPEN_SERVICE = "/grpc.health.v1.Health/"

Context = ServicerContext[Any, Any]
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls through to their handlers, or refuses them with a status of the one table.

    Messages are parsed behind it: a stranger's are not looked at, and one that cannot be parsed is
    INVALID_ARGUMENT, where gRPC would say UNKNOWN and show a piece of the parser's mind.

    Args:
        tokens: that callers need; None if they need none.
        callers: keeps account of them.
        strangers: keeps account of the addresses of calls without a valid token.
    """

    def __init__(self, tokens: Tokens | None, callers: Callers, strangers: Callers) -> None:
        self._tokens = tokens
        self._callers = callers
        self._strangers = strangers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a call's handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        is_open = handler_call_details.method.startswith(OPEN_SERVICE)
        kind = (handler.request_streaming, handler.response_streaming)
        behave: Any = self._answers(handler, is_open=is_open)
        if handler.request_streaming:
            behave = self._converses(handler, is_open=is_open)
        return _MAKERS[kind](behave, response_serializer=handler.response_serializer)

    def _answers(self, handler: Any, *, is_open: bool) -> Callable[..., Awaitable[Any]]:
        """Guard a handler of one request: a coroutine, which may write a stream of answers."""
        inner, parse = handler.unary_unary or handler.unary_stream, handler.request_deserializer
        assert not inspect.isasyncgenfunction(inner), "answers must be written by a coroutine"

        async def answer(data: bytes, context: Context) -> Any:
            try:
                with self._admit(context, is_open=is_open):
                    return await inner(_parse(parse, data), context)
            except UnrollError as error:
                await context.abort_with_status(to_status(error, current_call().request_id))

        return answer

    def _converses(self, handler: Any, *, is_open: bool) -> Callable[..., AsyncIterator[Any]]:
        """Guard a handler of a stream of requests and answers, an async generator."""
        inner, parse = handler.stream_stream, handler.request_deserializer

        async def parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for data in requests:
                yield _parse(parse, data)

        async def converse(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            try:
                with self._admit(context, is_open=is_open):
                    async for response in inner(parsed(requests), context):
                        yield response
            except UnrollError as error:
                await context.abort_with_status(to_status(error, current_call().request_id))

        return converse

    def _admit(self, context: Context, *, is_open: bool) -> AbstractContextManager[None]:
        """Return the block of a call's time.

        A caller without a name is known by its address. Probes have an account of their own, so
        that a busy caller on the same machine does not make the server look dead.
        """
        address = "address:" + context.peer().rpartition(":")[0]
        if is_open:
            return self._callers.admit("probe:" + address)
        try:
            identity = identify(context, self._tokens)
        except AuthenticationError:
            with self._strangers.admit(address):  # one too many is told to wait instead
                raise
        if identity.startswith("token:"):  # a certificate's name is known already
            current_call().caller = identity
        return self._callers.admit(identity or address)


def _parse(parse: Callable[[bytes], Any] | None, data: bytes) -> Any:
    try:
        return data if parse is None else parse(data)
    except DecodeError as error:
        raise InputError(
            "request", "is no message of this method; call it with the client of the same contract"
        ) from error
