"""Recurrent language models, compiled: run one in this process, or call a server that does.

    import unroll

    with unroll.load("bundles/fog") as model:
        print(model.generate("The fog", unroll.GenerateOptions(seed=7)).text)
    with unroll.Client("127.0.0.1:50051") as client:
        print(client.generate("The fog", unroll.GenerateOptions(seed=7)).text)

Stability: the names in `__all__` and the error classes in `unroll.errors` are public. Their names,
arguments, attributes and documented behaviour follow semantic versioning: while the version is 0.x,
only a new minor version breaks them, and the changelog says how to adapt. Messages are for people
and may change. Every other module is internal and may change at any time. The proto (`unroll.v1`),
bundles and capsules have versions of their own.

`load`, `load_async` and what they return are public, too, and need the extra `cpu` or `gpu`; so are
`adopt` and its result, which need `export`. A star import leaves them out.

A name is loaded when it is first used, so that `import unroll` costs next to nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.adopt.adopt import adopt as adopt
    from export.adopt.written import Adoption as Adoption
    from serving.local.model import AsyncLocalModel as AsyncLocalModel
    from serving.local.model import LocalModel as LocalModel
    from serving.local.model import load as load
    from serving.local.model import load_async as load_async
    from unroll.client.aio import AsyncClient
    from unroll.client.client import Client
    from unroll.client.faces.aio_session import AsyncSession
    from unroll.client.faces.session import Session
    from unroll.client.remote.security import Security
    from unroll.errors import (
        AuthenticationError,
        DeadlineError,
        InputError,
        OverloadedError,
        ServerError,
        SessionError,
        UnavailableError,
        UnrollError,
    )
    from unroll.options import (
        FindUnitsOptions,
        GenerateOptions,
        InspectOptions,
        ScoreOptions,
        SessionOptions,
    )
    from unroll.results import (
        Alternatives,
        Answer,
        Completion,
        FoundUnit,
        FoundUnits,
        Generation,
        Inspection,
        ModelInfo,
        Piece,
        Score,
        SessionInfo,
        Unit,
        Usage,
    )
    from unroll.terms import Capsules, FinishReason, UnitKind, UnknownSymbols

    __version__: str

__all__ = [
    "Alternatives",
    "Answer",
    "AsyncClient",
    "AsyncSession",
    "AuthenticationError",
    "Capsules",
    "Client",
    "Completion",
    "DeadlineError",
    "FindUnitsOptions",
    "FinishReason",
    "FoundUnit",
    "FoundUnits",
    "GenerateOptions",
    "Generation",
    "InputError",
    "InspectOptions",
    "Inspection",
    "ModelInfo",
    "OverloadedError",
    "Piece",
    "Score",
    "ScoreOptions",
    "Security",
    "ServerError",
    "Session",
    "SessionError",
    "SessionInfo",
    "SessionOptions",
    "UnavailableError",
    "Unit",
    "UnitKind",
    "UnknownSymbols",
    "UnrollError",
    "Usage",
    "__version__",
]

if not TYPE_CHECKING:  # type checkers know the names from above, and no others
    _WITH_EXTRAS = {
        "Adoption": "export.adopt.written",
        "AsyncLocalModel": "serving.local.model",
        "LocalModel": "serving.local.model",
        "adopt": "export.adopt.adopt",
        "load": "serving.local.model",
        "load_async": "serving.local.model",
    }
    # Where other names are looked for; the modules that need gRPC come last.
    _HOMES = (
        "unroll.terms",
        "unroll.errors",
        "unroll.options",
        "unroll.results",
        "unroll.client.remote.security",
        "unroll.client.faces.session",
        "unroll.client.client",
        "unroll.client.faces.aio_session",
        "unroll.client.aio",
    )

    def __getattr__(name: str) -> object:
        from importlib import import_module, metadata

        if name == "__version__":
            return globals().setdefault(name, metadata.version("unroll"))
        if name in _WITH_EXTRAS:
            return globals().setdefault(name, _import(name))
        if name in __all__:
            for home in map(import_module, _HOMES):
                if name in vars(home):
                    return globals().setdefault(name, vars(home)[name])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def _import(name: str) -> object:
        from importlib import import_module

        try:
            return vars(import_module(_WITH_EXTRAS[name]))[name]
        except ModuleNotFoundError as error:
            errors = import_module("unroll.errors")
            told = errors.lacking(f"unroll.{name}", error.name, "cpu,export")
            raise errors.MissingExtraError(told) from error

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_WITH_EXTRAS})
