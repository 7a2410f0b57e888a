"""The gate: what every call passes, by whichever door it came.

A call is counted and traced; its caller is found out and has to have room; at its end the call gets
its line in the log. A call counts as one of its caller until the door's task of it is done.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from serving.access.call import Call, CallCounts, Metadata, Span
from serving.access.callers import Callers
from serving.access.certificates import identity_of, shown
from serving.access.tokens import Tokens
from unroll.errors import AuthenticationError

REQUEST_ID = "x-request-id"
MESSAGE_SECONDS = 60.0  # within which a request's message has to arrive whole
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_BEARER = "bearer "
_IDS = random.Random()  # ids are no secret; to ask the system takes longer

T = TypeVar("T")
Respond = Callable[[], Awaitable[T]]  # handles a call that was admitted
Refuse = Callable[[BaseException], Awaitable[T]]  # answers a call with what was raised


def no_span(call: Call) -> AbstractContextManager[None]:
    """Open no span around a call."""
    return nullcontext()


class Gate:
    """Lets calls through to their handlers and keeps account of them; all on one event loop.

    Args:
        tokens: that callers need; None if they need none.
        callers: keeps account of them.
        strangers: keeps account of the addresses of calls without a valid token.
        counts: counts the calls.
        span: opens what surrounds them in a trace; nothing by default.
        asks_certificates: whether the doors ask clients for certificates, which name callers.

    Attributes:
        running: the doors' tasks of the calls under way.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        callers: Callers,
        strangers: Callers,
        counts: CallCounts,
        span: Span = no_span,
        *,
        asks_certificates: bool = False,
    ) -> None:
        self._tokens = tokens
        self._callers = callers
        self._strangers = strangers
        self._counts = counts
        self._span = span
        self._asks_certificates = asks_certificates
        self.running: set[asyncio.Task[Any]] = set()
        self._everyone: set[asyncio.Task[Any]] = set()  # probes, too

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no call is running, up to this many seconds."""
        if self.running:
            await asyncio.wait(self.running, timeout=seconds)

    async def wait_ended(self, seconds: float) -> None:
        """Wait until the doors have ended all tasks of calls, also of probes, up to so long."""
        if self._everyone:
            await asyncio.wait(self._everyone, timeout=seconds)

    async def serve(self, call: Call, respond: Respond[T], refuse: Refuse[T]) -> T:
        """Admit a call and let it be answered; count it, trace it and write its line in the log."""
        self.running.add(_task())
        self._counts.running[call.method].inc()
        is_answered = False
        try:
            with self._span(call):
                try:
                    answered = await self.answer(call, self.admit, respond, refuse)
                    is_answered = True
                finally:
                    call.note_end(is_answered=is_answered)
        finally:  # the client has its answer before the account is kept
            seconds = time.monotonic() - call.began
            asyncio.get_running_loop().call_soon(self._note_end, call, seconds)
        return answered

    def _note_end(self, call: Call, seconds: float) -> None:
        call.log_end(seconds)
        self._counts.end(call, seconds)

    async def answer(
        self, call: Call, admit: Callable[[Call], None], respond: Respond[T], refuse: Refuse[T]
    ) -> T:
        """Admit a call and let it be answered.

        Args:
            call: that has come.
            admit: as whom: `admit` or `admit_probe`.
            respond: handles it.
            refuse: answers with what the other two raise.
        """
        try:
            admit(call)
            return await respond()
        except (Exception, asyncio.CancelledError) as error:
            if call.admitted is not None:
                call.admitted.close()  # a refusal is never waited for
            return await refuse(error)

    def close_at_end(self, call: Call) -> None:
        """Count a call no more once the door's task of it, which runs, is done."""
        task = _task()
        self._everyone.add(task)
        task.add_done_callback(partial(self._forget, call))

    def _forget(self, call: Call, task: asyncio.Task[Any]) -> None:
        self.running.discard(task)
        self._everyone.discard(task)
        if call.admitted is not None:
            call.admitted.close()

    def admit(self, call: Call) -> None:
        """Find out who calls, and count the call as theirs.

        A caller without a name is known by its address.

        Args:
            call: that has come.

        Raises:
            AuthenticationError: the caller has to have a valid token, or a certificate a name.
            OverloadedError: the caller has no room for it; see Callers.admit.
        """
        address = _address(call)
        if self._tokens is not None:
            name = self._tokens.name_of(_bearer(call.metadata))
            if name is None:
                with self._strangers.admit(address):  # one too many is told to wait instead
                    raise AuthenticationError(
                        "a valid token is needed: send `authorization: Bearer TOKEN`, a header of "
                        "HTTP or metadata of gRPC; the command line reads it from --token-file "
                        "or UNROLL_TOKEN"
                    )
            call.identity = call.caller = f"token:{name}"
        elif self._asks_certificates and (names := call.names()) is not None:
            if not names:
                raise AuthenticationError(
                    "the client's certificate has no name; it needs a subject alternative name or "
                    "a common name"
                )
            call.identity, call.caller = identity_of(names), shown(names)
        call.account = call.identity or address
        call.hold = partial(self._callers.hold, call.account)
        call.admitted = self._callers.admit(call.account)

    def admit_probe(self, call: Call) -> None:
        """Count a call of a probe, who needs no token.

        Probes have an account of their own, so that a busy caller on the same machine does not
        make the server look dead; so have watches, which last.

        Raises:
            OverloadedError: see Callers.admit.
        """
        call.account = f"{call.method}:{_address(call)}"
        call.admitted = self._callers.admit(call.account)


def request_id_of(metadata: Metadata) -> str:
    """Return the client's id of a call; a new one if it has none that can be put into a log."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _ID.fullmatch(value):
            return value
    return f"{_IDS.getrandbits(64):016x}"


def release_frames(error: BaseException) -> None:
    """Let go of the frames that raised an error: they hold the request, megabytes, until collected.

    They are not cleared: calls that wait for one commit share its error, and clearing the frame of
    another call that still runs would end that call.
    """
    error.__traceback__ = None


def _task() -> asyncio.Task[Any]:
    """Return the door's own task of a call, which also sends what the handler returns."""
    task = asyncio.current_task()
    assert task is not None
    return task


def _address(call: Call) -> str:
    return "address:" + call.caller.rpartition(":")[0]


def _bearer(metadata: Metadata) -> bytes:
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str):
            scheme, token = value[: len(_BEARER)], value[len(_BEARER) :]
            return token.strip().encode() if scheme.lower() == _BEARER else b""
    return b""
