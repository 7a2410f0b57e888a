"""One call, by whichever door it came: what is known of it from its beginning to its end."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.access.callers import Counted
from serving.access.certificates import Names
from unroll.wire import TABLE

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_GIVEN = sorted({"OK", "UNKNOWN", "INTERNAL", *(row.code.name for row in TABLE)})  # codes

log = logging.getLogger("serving.access")

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(kw_only=True, slots=True, eq=False)
class Call(ABC):
    """One call. Prompts and texts are never in it.

    Attributes:
        metadata: that came with it: gRPC's metadata, or HTTP's headers.
        method: its name without the service; a path for HTTP.
        request_id: the client's, or one of 16 random hex digits.
        caller: its address, or the identity that its token or certificate proves.
        began: time.monotonic() when it came.
        deadline: time.monotonic() after which it fails; None for never.
        admitted: the call as one of its caller's, once it is.
        hold: lets so many further samples count as calls of the caller, until they are closed.
        identity: of the caller, as a token or certificate proves it; empty for none.
        account: the caller as limits and fair shares know it: its identity, else its address.
        model: that answered; empty if it came to none.
        symbols_read: of its prompt or scored text.
        symbols_written: in its answer so far.
        code: name of the status that it ended with.
    """

    metadata: Metadata
    method: str
    request_id: str
    caller: str
    began: float
    deadline: float | None
    admitted: Counted | None = None
    hold: Callable[[int], AbstractContextManager[object]] = field(
        default=lambda more: nullcontext()
    )
    identity: str = ""
    account: str = ""
    model: str = ""
    symbols_read: int = 0
    symbols_written: int = 0
    code: str = grpc.StatusCode.UNKNOWN.name

    @property
    @abstractmethod
    def system(self) -> str:
        """How it came, as traces name it."""

    @abstractmethod
    def names(self) -> Names | None:
        """Return the names in the client's certificate; None without one."""

    @abstractmethod
    async def write(self, message: Any) -> None:
        """Send one message of a stream; returns once the reader has room.

        Raises:
            DeadlineError: the call is over, since its deadline has passed.
            CancelledError: the call is over, since its client has gone.
        """

    @abstractmethod
    def note_end(self, *, is_answered: bool) -> None:
        """Note the code that the call ended with.

        Args:
            is_answered: whether its handler came to its end.
        """

    def log_end(self, seconds: float) -> None:
        """Write the call's line in the log."""
        facts = {
            "method": self.method,
            "code": self.code,
            "model": self.model,
            "symbols_read": self.symbols_read,
            "symbols_written": self.symbols_written,
            "seconds": round(seconds, 6),
            "caller": self.caller,
            "request_id": self.request_id,
        }
        log.info("call ended", extra=facts)


class Span(Protocol):
    """Opens what surrounds a call in a trace."""

    def __call__(self, call: Call) -> AbstractContextManager[None]:
        """Surround a call; at its end, the span tells what the log line tells."""
        ...


class CallCounts:
    """Counts calls by how they ended. Every series is there from the start, at 0.

    Args:
        methods: that can be called.

    Attributes:
        registry: holds the three and nothing else.
        running: calls under way, by method.
        ended: calls by method and code.
        seconds: how long they took, by method.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self.ended = Counter(
            "unroll_requests",
            "Calls that ended, by method and code.",
            ["method", "code"],
            registry=self.registry,
        )
        running = Gauge(
            "unroll_requests_running", "Running calls.", ["method"], registry=self.registry
        )
        seconds = Histogram(
            "unroll_request_seconds",
            "Time from a call's arrival to its end.",
            ["method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        methods = tuple(methods)
        self._ended = cache(self.ended.labels)  # which takes ten times as long
        self.running = {method: running.labels(method) for method in methods}
        self.seconds = {method: seconds.labels(method) for method in methods}
        for method in methods:
            for code in _GIVEN:
                self.ended.labels(method, code)

    def end(self, call: Call, seconds: float) -> None:
        """Count a call that has ended."""
        self.running[call.method].dec()
        self._ended(call.method, call.code).inc()
        self.seconds[call.method].observe(seconds)
