"""What probes and balancers ask: `/livez` and `/readyz`. They need no token."""

import logging

from starlette.types import Receive, Scope, Send

from serving.access.gate import Gate
from serving.http.endpoint import make_call
from serving.http.refusal import Refusal
from serving.rpc.health import Health
from unroll.errors import OverloadedError

TEXT = "text/plain; charset=utf-8"

log = logging.getLogger(__name__)


class Probe:
    """Answers one of the two; an ASGI application.

    Args:
        gate: that all doors share.
        path: of the route.
        health: that is asked; None where an answer is enough.
    """

    def __init__(self, gate: Gate, path: str, health: Health | None = None) -> None:
        self._gate = gate
        self._path = path
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; neither counted nor logged, as gRPC's health checks are not."""
        call = make_call(scope, receive, send, self._path)
        self._gate.close_at_end(call)
        try:
            self._gate.admit_probe(call)
        except OverloadedError as error:
            refusal = Refusal.of(error, call.request_id)
            text = refusal.status.message.encode()
            await call.answer(refusal.number, text, TEXT, refusal.headers)
            return
        is_up = self._health is None or self._health.is_serving
        await call.answer(200 if is_up else 503, b"ok\n" if is_up else b"not serving\n", TEXT)
