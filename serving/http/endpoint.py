"""HTTP's side of the gate: the one wrapper around every request of a route."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.types import Receive, Scope, Send

from serving.access.gate import Gate, release_frames, request_id_of
from serving.http.call import HttpCall
from serving.http.refusal import Refusal
from unroll.errors import CancelledError, DeadlineError, InputError, UnrollError

TIMEOUT = "connect-timeout-ms"
# After the deadline: the engine tells of it first, with all text that came in time.
LATE_SECONDS = 1.0

log = logging.getLogger(__name__)

Handle = Callable[[HttpCall, bytes], Awaitable[None]]
Refuse = Callable[[HttpCall, Refusal], Awaitable[None]]


class Endpoint:
    """Answers the requests of one route; an ASGI application.

    Args:
        gate: that all doors share.
        name: of the route, in metrics and logs.
        handle: answers a call, given its request's body.
        refuse: answers with an error, also where a stream has begun.
        most: size of a request's body at most, in bytes.
    """

    def __init__(self, gate: Gate, name: str, handle: Handle, refuse: Refuse, most: int) -> None:
        self._gate = gate
        self._name = name
        self._handle = handle
        self._refuse = refuse
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        call = make_call(scope, receive, send, self._name)
        self._gate.close_at_end(call)
        await self._gate.serve(call, partial(self._respond, call), partial(self._tell, call))

    async def _respond(self, call: HttpCall) -> None:
        call.deadline = _deadline_of(call)
        body = await call.read(self._most)
        left = None if call.deadline is None else call.deadline - time.monotonic() + LATE_SECONDS
        try:
            async with asyncio.timeout(left), call.watched():
                await self._handle(call, body)
        except TimeoutError as error:
            call.is_stuck = call.has_begun
            raise DeadlineError("the deadline passed before the answer was complete") from error

    async def _tell(self, call: HttpCall, error: BaseException) -> None:
        """Answer with what was raised; no more to a client that has gone."""
        if call.has_gone:
            return
        if isinstance(error, asyncio.CancelledError):
            error = CancelledError("the call was cancelled")
        elif not isinstance(error, UnrollError):
            log.error("internal error in call %s", call.request_id, exc_info=error)
        assert isinstance(error, Exception)
        refusal = Refusal.of(error, call.request_id)
        call.code = refusal.code.name
        release_frames(error)
        del error
        if call.is_stuck:
            call.connection.abort()
            await asyncio.sleep(0)  # uvicorn learns of it
        else:
            await self._refuse(call, refusal)


def make_call(scope: Scope, receive: Receive, send: Send, name: str) -> HttpCall:
    """Make the record of a request."""
    metadata = tuple(
        (key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]
    )
    return HttpCall(
        scope=scope,
        receive=receive,
        send=send,
        metadata=metadata,
        method=name,
        request_id=request_id_of(metadata),
        caller=_peer(*(scope["client"] or ("unknown", 0))),
        began=time.monotonic(),
        deadline=None,
    )


def _peer(host: str, port: int) -> str:
    """Write an address as gRPC does, so that it has one account at all doors."""
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _deadline_of(call: HttpCall) -> float | None:
    """Return time.monotonic() at a call's deadline; None without one."""
    told = call.header(TIMEOUT)
    if not told:
        return None
    if not (told.isascii() and told.isdigit() and len(told) <= 10):
        raise InputError(
            TIMEOUT, f"must be a whole number of milliseconds of up to 10 digits, got {told!r:.30}"
        )
    return call.began + int(told) / 1e3
