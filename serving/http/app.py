"""The routes of the HTTP door."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access.gate import REQUEST_ID, Gate
from serving.engine.models import Models
from serving.http import connect
from serving.http.call import HttpCall
from serving.http.endpoint import Endpoint, Handle, Refuse
from serving.http.openai.answers import refuse
from serving.http.openai.completions import Completions
from serving.http.openai.models import Catalogue
from serving.http.probes import Probe
from serving.rpc.gate import LONGEST_MESSAGE
from serving.rpc.health import Health
from serving.rpc.servicer import TextGenerationServicer
from serving.runtime.onnx import runtime_name
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

JSON_BYTES = 3  # for each byte of a message: a symbol of four bytes may be escaped in twelve


@dataclass(frozen=True, kw_only=True)
class Path:
    """One route behind the gate.

    Attributes:
        name: its path; metrics and logs call it so.
        handle: answers a call.
        most: bytes of a request's body at most: what is longer would take long to parse.
        refuse: answers with an error.
        verb: GET or POST.
    """

    name: str
    handle: Handle
    most: int = LONGEST_MESSAGE
    refuse: Refuse = connect.refuse
    verb: str = "POST"


def paths(
    models: Models, servicer: TextGenerationServicer, longest: Mapping[str, int]
) -> list[Path]:
    """List the routes behind the gate.

    Args:
        models: what is served.
        servicer: answers the methods.
        longest: bytes of a message, by method, for those that take much.
    """
    text = JSON_BYTES * longest["Generate"]
    complete = Completions(servicer.texts).handle
    catalogue = Catalogue(models, servicer.texts)
    methods = [
        (each.name, connect.Method(each, getattr(servicer, each.name)))
        for each in pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods
        if not each.client_streaming  # HTTP/1.1 cannot
    ]
    return [
        *(
            Path(
                name=f"/{SERVICE}/{name}",
                handle=method.handle,
                most=JSON_BYTES * longest.get(name, LONGEST_MESSAGE),
                refuse=method.refuse,
            )
            for name, method in methods
        ),
        Path(name="/v1/completions", handle=complete, most=text, refuse=refuse),
        Path(name="/v1/models", handle=catalogue.list, refuse=refuse, verb="GET"),
        Path(name="/v1/models/{model:path}", handle=catalogue.get, refuse=refuse, verb="GET"),
        Path(name="/tokenize", handle=catalogue.tokenize, most=text, refuse=refuse),
        Path(name="/detokenize", handle=catalogue.detokenize, most=text, refuse=refuse),
        Path(name="/tokenizer_info", handle=catalogue.tokenizer_info, refuse=refuse, verb="GET"),
        Path(name="/version", handle=tell_version, verb="GET"),
    ]


def make_app(
    routes: Iterable[Path], gate: Gate, health: Health, message_bytes: int, origins: tuple[str, ...]
) -> ASGIApp:
    """Make the ASGI application.

    Args:
        routes: behind the gate.
        gate: that all doors share.
        health: of the server.
        message_bytes: size of a request's body at most.
        origins: of other servers' pages that may ask, as https://HOST:PORT.
    """
    found = [
        Route(
            path.name,
            Endpoint(gate, path.name, path.handle, path.refuse, min(path.most, message_bytes)),
            methods=[path.verb],
        )
        for path in routes
    ]
    probes = [("/livez", None), ("/readyz", health)]
    found += [Route(path, Probe(gate, path, asked)) for path, asked in probes]
    allow = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[REQUEST_ID, "retry-after", "retry-after-ms"],
    )
    app = Starlette(
        routes=found,
        middleware=[allow] if origins else [],
        exception_handlers={404: _refuse_path, 405: _refuse_path},
    )
    app.router.redirect_slashes = False
    return SameOrigin(app, origins)


class SameOrigin:
    """Refuses what pages of other origins ask for; an ASGI application around another.

    A browser names the origin of the page that asks; no other client has one.

    Args:
        app: answers the rest.
        allowed: other origins that may ask.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        is_own = origin is None or urlsplit(origin).netloc == headers.get("host")
        if is_own or origin in self._allowed:
            await self._app(scope, receive, send)
            return
        message = (
            "a page of another origin may not ask; its operator can allow it (http_allow_origin)"
        )
        await _json(403, "permission_denied", message)(scope, receive, send)


async def tell_version(call: HttpCall, _: bytes) -> None:
    """Tell the versions of the server and its runtime."""
    told = {"version": version("unroll"), "runtime": runtime_name()}
    await call.answer(200, json.dumps(told).encode())


async def _refuse_path(request: Request, error: Exception) -> JSONResponse:
    number = getattr(error, "status_code", 404)
    message = "there is no such path" if number == 404 else "this path takes another method"
    return _json(number, "unimplemented", f"{message}: {request.method} {request.url.path:.100}")


def _json(number: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, number)
