"""The page's files, as they are served: `/` and `/page/...`. They need no token."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.access.gate import Gate
from serving.http.endpoint import make_call
from serving.http.refusal import Refusal
from unroll.errors import OverloadedError

FOLDER = Path(__file__).parent / "page"
FIRST = "index.html"
MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # a browser asks whether it still has the right one
}


class PageFile:
    """Answers with one file; an ASGI application.

    Args:
        gate: that all doors share.
        path: of the route.
        file: that is served.
    """

    def __init__(self, gate: Gate, path: str, file: Path) -> None:
        self._gate = gate
        self._path = path
        self._body = file.read_bytes()
        self._tag = f'"{sha256(self._body).hexdigest()[:32]}"'
        self._headers = HEADERS | {"etag": self._tag, "content-type": MEDIA[file.suffix]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; neither counted nor logged, as probes are not."""
        call = make_call(scope, receive, send, self._path)
        self._gate.close_at_end(call)
        try:
            self._gate.admit_probe(call)
        except OverloadedError as error:
            refusal = Refusal.of(error, call.request_id)
            headers = dict(refusal.headers)
            answer = Response(refusal.status.message, refusal.number, headers, MEDIA[".txt"])
        else:
            has_it = self._tag in call.header("if-none-match")
            answer = Response(b"" if has_it else self._body, 304 if has_it else 200, self._headers)
        await answer(scope, receive, send)


def page_files(gate: Gate) -> Iterator[tuple[str, PageFile]]:
    """Yield the routes of the page, each with what answers it."""
    for file in sorted(FOLDER.rglob("*.*")):
        if file.suffix in MEDIA:
            name = file.relative_to(FOLDER).as_posix()
            path = "/" if name == FIRST else f"/page/{name}"
            yield path, PageFile(gate, path, file)
