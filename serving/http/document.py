"""`/openapi.json`: what the routes take and give, as OpenAPI 3.1 describes it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor

from serving.http.refusal import NUMBERS
from serving.http.schema import Schemas
from serving.texts.given.fields import Fields, Schema
from unroll.wire import TABLE

JSON = "application/json"
TEXT: Schema = {"type": "string"}
ERRORS = tuple(sorted({500, *(NUMBERS[row.code] for row in TABLE)}))


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What the document tells of a route.

    Attributes:
        name: of the operation.
        summary: one line about it.
        takes: the request: a message, or what reads its fields; None for a request without a body.
        gives: the answer: a type or a message; None for plain text.
        refuses: likewise, of an answer that refuses.
        streams: media type of the answer in pieces; empty if it never comes so.
        refusals: HTTP's numbers of them.
    """

    name: str
    summary: str
    takes: Descriptor | Callable[[Fields], object] | None = None
    gives: Any = None
    refuses: Any = None
    streams: str = ""
    refusals: tuple[int, ...] = ERRORS

    def describe(self, path: str, schemas: Schemas) -> dict[str, Any]:
        """Describe it, with `schemas` that it refers to."""
        answered, refused = _content(self.gives, schemas), _content(self.refuses, schemas)
        if self.streams:
            answered[self.streams] = {"schema": _event(self.gives, self.refuses, schemas)}
        refusals = {str(each): _answer("A refusal.", refused) for each in self.refusals}
        made: dict[str, Any] = {
            "operationId": self.name,
            "summary": self.summary,
            "responses": {"200": _answer("The answer.", answered), **refusals},
        }
        if names := re.findall("{(.*?)}", path):
            made["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": TEXT} for name in names
            ]
        if self.takes is not None:
            schema = (
                schemas.of(self.takes)
                if isinstance(self.takes, Descriptor)
                else schemas.of_request(f"{self.name}Request", self.takes)
            )
            made["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
        return made


def document(operations: Iterable[tuple[str, str, Operation]]) -> dict[str, Any]:
    """Make the document.

    Args:
        operations: each with its path and verb.
    """
    schemas, paths = Schemas(), dict[str, dict[str, Any]]()
    for path, verb, operation in operations:
        named = path.replace(":path}", "}")
        paths[named] = {verb.lower(): operation.describe(named, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "unroll",
            "version": version("unroll"),
            "license": {"name": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.named,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],  # if the server has tokens
    }


PROBES = [
    (path, "GET", Operation(name=path[1:], summary=summary, refusals=(429, 503)))
    for path, summary in (
        ("/livez", "Whether the event loop runs."),
        ("/readyz", "Whether requests are taken."),
    )
]


def _content(kind: Any, schemas: Schemas) -> dict[str, Any]:
    return (
        {"text/plain": {"schema": TEXT}} if kind is None else {JSON: {"schema": schemas.of(kind)}}
    )


def _event(gives: Any, refuses: Any, schemas: Schemas) -> Schema:
    """Describe one event of a stream; the last one tells only that it is the last."""
    content = {"anyOf": [schemas.of(gives), schemas.of(refuses)]}
    told = TEXT | {"contentMediaType": JSON, "contentSchema": content}
    data = {"anyOf": [{"const": "[DONE]"}, told]}
    return {"type": "object", "required": ["data"], "properties": {"data": data}}


def _answer(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}
