"""Command lines from typed settings: a TOML file, overridden by flags, unknown keys refused."""

import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import App, Parameter
from cyclopts.config import Dict

from serving.errors import SettingsError, UnrollError, nearest

S = TypeVar("S")


def read_toml(path: Path, settings: type) -> dict[str, Any]:
    """Read a flat TOML file whose keys are fields of a settings dataclass.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or holds an unknown key (the
            nearest known one is named).
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not TOML in UTF-8: {error}") from error
    known = {field.name: field.type for field in fields(settings)}
    for key in values:
        if key not in known:
            raise SettingsError(f"{path}: unknown key {key!r}; {nearest(key, known)}")
        if known[key] is int and isinstance(values[key], float):  # cyclopts would round it
            raise SettingsError(f"{path}: {key} must be a whole number, got {values[key]}")
    return values


def run(
    settings: type[S],
    main: Callable[[S], None],
    *,
    name: str,
    tokens: Sequence[str] | None = None,
    preset: Callable[[str], Path] | None = None,
) -> None:
    """Parse a command line into a settings dataclass and call `main` with it.

    Precedence: flags, then `--config FILE`, then `--preset NAME` (where the command has
    presets), then the dataclass's defaults. An `UnrollError` ends the process with status 2 and
    its message on standard error; so does anything unknown.

    Args:
        settings: a dataclass decorated with `cyclopts.Parameter(name="*")`; its docstrings are
            the help.
        main: what to run.
        name: how the command is called in its help.
        tokens: the command line; `sys.argv[1:]` by default.
        preset: finds the TOML file of a preset by name; raises SettingsError for unknown ones.
    """
    app = _app(settings, main, name)

    @app.meta.default
    def _meta(
        *rest: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[Path | None, Parameter(help="TOML file of settings.")] = None,
        preset_name: Annotated[
            str | None,
            Parameter(name="--preset", show=preset is not None, help="Named set of settings."),
        ] = None,
    ) -> None:
        files = [] if config is None else [config]
        if preset_name is not None:
            if preset is None:
                raise SettingsError(f"--preset {preset_name}: this command has no presets")
            files.append(preset(preset_name))
        app.config = [Dict(read_toml(file, settings), source=str(file)) for file in files]
        app(rest)

    try:
        app.meta(tokens)
    except UnrollError as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(2) from error


def _app(settings: type[S], main: Callable[[S], None], name: str) -> App:
    """Make a command whose flags are the fields of a settings dataclass."""
    app = App(name=name, help=settings.__doc__, version_flags=())

    def call(values: S) -> None:
        main(values)

    call.__annotations__["values"] = settings
    if not any(f.default is MISSING and f.default_factory is MISSING for f in fields(settings)):  # type: ignore[arg-type]
        call.__defaults__ = (settings(),)
    app.default(call)
    return app
