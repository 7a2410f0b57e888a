"""The routes of the HTTP door."""

from collections.abc import Iterable, Mapping
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
from serving.http.endpoint import Endpoint
from serving.http.files import page_files
from serving.http.openai.bodies import Refused
from serving.http.paths import Path
from serving.http.probes import Probe
from serving.rpc.health import Health

# OpenAI's paths for chats, which a model of plain texts has no roles for.
CHATS = ("/v1/chat/completions", "/v1/responses")
OPENAI = ("/v1/", "/tokenize", "/detokenize")  # where refusals have OpenAI's form


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
    probes = [
        ("/livez", None),
        ("/readyz", health),
        ("/v2/health/live", None),
        ("/v2/health/ready", health),
    ]
    found += [Route(path, Probe(gate, path, asked), methods=["GET"]) for path, asked in probes]
    found += [Route(path, file, methods=["GET"]) for path, file in page_files(gate)]
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
        refused = _refusal(scope["path"], 403, "permission_denied", message)
        await refused(scope, receive, send)


async def _refuse_path(request: Request, error: Exception) -> JSONResponse:
    number = getattr(error, "status_code", 404)
    headers = getattr(error, "headers", None) or {}
    taken = " and ".join(sorted(headers.get("Allow", "").split(", ")))
    message = f"this path takes {taken} only" if taken else "there is no such path"
    path = request.url.path
    if path in CHATS:
        message = "these models continue texts and know no chats; ask /v1/completions for a prompt"
    return _refusal(
        path,
        number,
        "unimplemented",
        f"{message}: {request.method} {path:.100}",
        headers,
    )


def _refusal(
    path: str, number: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Refuse what gets to no route, in the form of the door that the path belongs to."""
    if path.startswith(OPENAI):
        told: Refused = {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": None,
                "code": code,
            }
        }
        return JSONResponse(told, number, headers)
    return JSONResponse({"code": code, "message": message}, number, headers)
