"""Command lines from typed settings: a TOML file, overridden by flags, unknown keys refused."""

import codecs
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from enum import Enum
from functools import partial
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Dict

from unroll.errors import INTERRUPTED, InputError, SettingsError, UnrollError, nearest
from unroll.help import HelpWithRanges
from unroll.ranges import flag
from unroll.refusal import refusal, refuse_fractions

S = TypeVar("S")
Given = Callable[[str], Any]
"""What was given for a setting, by its name; None where nothing was."""

_OPTIONS = ("--help", "--config")  # of every command
_ZEROS = {"0", "0.0"}  # as flags and files give them
# A field's name, but not where it is quoted or part of a path: then somebody gave it as a value.
_NAME = re.compile(r"""(?<![\w'"/.-])[a-z]+(?:_[a-z]+)+(?![\w'"/-]|\.\w)""")


def read_toml(path: Path, settings: type) -> dict[str, Any]:
    """Read a flat TOML file whose keys are fields of a settings dataclass.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or holds an unknown key (the
            nearest known one is named).
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read: {error.strerror}; give the name of a TOML file of "
            "settings, or none"
        ) from error
    except (ValueError, RecursionError) as error:  # brackets in brackets
        raise SettingsError(f"{path}: is not TOML in UTF-8: {error}") from error
    # Without what is annotated. A key is the name on the command line: `from`, not `from_`.
    known = {name.rstrip("_"): kind for name, kind in get_type_hints(settings).items()}
    for key in values:
        if key not in known:
            raise SettingsError(f"{path}: unknown key {key!r}; {nearest(key, known)}")
        is_whole = known[key] in {int, int | None}
        if is_whole and isinstance(values[key], float):  # cyclopts would round it
            raise SettingsError(f"{path}: {key} must be a whole number, got {values[key]}")
    return values


def run(
    settings: type[S],
    main: Callable[[S], None],
    *,
    name: str,
    tokens: Sequence[str] | None = None,
    preset: Callable[[str, Given], list[Path]] | None = None,
    together: Sequence[str] = (),
    loose: str = "",
) -> None:
    """Parse a command line into a settings dataclass and call `main` with it.

    Precedence: flags, then `--config FILE`, then `--preset NAME` (where the command has
    presets), then the dataclass's defaults. An `UnrollError` ends the process with its
    `exit_status`, mostly 2, and its message on standard error; so does anything unknown. Ctrl-C
    ends it with 130, and says so there.

    Args:
        settings: a dataclass decorated with `cyclopts.Parameter(name="*")`; its docstrings are
            the help.
        main: what to run.
        name: how the command is called in its help.
        tokens: the command line; `sys.argv[1:]` by default.
        preset: finds the TOML files of a preset by its name, the first one winning, and may ask
            what the command line gives for a setting; raises SettingsError for unknown ones.
        together: numbers of which each of these gives all or none: if flags give one that is not
            0, those of the file and of the preset do not count, and so on.
        loose: the setting that a word without a flag is probably meant for; empty for none.
    """
    app = _app(settings, main, name)
    app.meta.suppress_keyboard_interrupt = False
    app.meta.default(_reading_files(app, settings, preset, together))
    _let_show_all(sys.stdout)
    try:
        app.meta(tokens)
    except (CycloptsError, UnrollError) as error:
        options = [*_OPTIONS, *(["--preset"] if preset else [])]
        ours = refusal(error, settings, options, loose)
        sys.stderr.write(f"{name}: {_told(ours, settings)}\n")
        raise SystemExit(ours.exit_status) from error
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        raise SystemExit(INTERRUPTED) from None


def _let_show_all(output: object) -> None:
    """Let an output take any text; what its encoding lacks becomes a question mark.

    ASCII is what a process has whose locale says nothing, and then UTF-8 is meant.
    """
    if isinstance(output, TextIOWrapper):
        says_nothing = codecs.lookup(output.encoding).name == "ascii"
        output.reconfigure(encoding="utf-8" if says_nothing else None, errors="replace")


def in_utf8(settings: S, *names: str) -> S:
    """Return settings with their texts read as UTF-8, even where the locale has another encoding.

    Python keeps bytes of the command line that the locale's encoding lacks as lone surrogates. What
    names a file has to keep them.

    Args:
        settings: a dataclass.
        names: of the settings to read anew; by default all that are str or hold str.

    Raises:
        InputError: a text is not UTF-8.
    """
    changes: dict[str, Any] = {}
    for name in names or [each.name for each in fields(settings)]:  # type: ignore[arg-type]
        value = getattr(settings, name)
        if isinstance(value, str):
            changes[name] = _in_utf8(name, value)
        elif isinstance(value, tuple):
            changes[name] = tuple(_in_utf8(name, one) for one in value)
    return replace(settings, **changes)  # type: ignore[type-var]


def _in_utf8(field: str, given: str) -> str:
    try:
        return given.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise InputError(
            field,
            f"{given!r} is not UTF-8; give it in UTF-8, or in a file that is",
        ) from error


def _reading_files(
    app: App,
    settings: type,
    preset: Callable[[str, Given], list[Path]] | None,
    together: Sequence[str],
) -> Callable[..., None]:
    """Return what reads the files that a command line names, and then its flags."""

    def read(
        *rest: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[Path | None, Parameter(help="TOML file of settings.")] = None,
        preset_name: Annotated[
            str | None,
            Parameter(name="--preset", show=preset is not None, help="Named set of settings."),
        ] = None,
    ) -> None:
        files = {} if config is None else {config: read_toml(config, settings)}
        if preset_name is not None:
            if preset is None:
                raise SettingsError(
                    f"--preset {preset_name}: this command has no presets; leave it out"
                )
            given = partial(_given, rest, dict(*files.values()))
            files |= {file: read_toml(file, settings) for file in preset(preset_name, given)}
        _drop_replaced(together, rest, files.values())
        of_files = [Dict(values, source=str(file)) for file, values in files.items()]
        app.config = [*of_files, refuse_fractions]
        app(rest)

    return read


def _drop_replaced(
    together: Sequence[str], tokens: Sequence[str], files: Iterable[dict[str, Any]]
) -> None:
    """Drop settings that go together from the files that are weaker than one that gives any.

    Args:
        together: the settings.
        tokens: the command line, stronger than all files.
        files: what they give, the strongest first.
    """
    of_flags = {name: _given(tokens, {}, name) for name in together}
    is_given = False
    for values, weaker in pairwise([of_flags, *files]):
        is_given |= any(str(values.get(name) or 0) not in _ZEROS for name in together)
        for name in together if is_given else ():
            weaker.pop(name, None)


def _told(error: UnrollError, settings: type) -> str:
    """Return an error's message; fields that are settings have the names of their flags."""
    if not isinstance(error, InputError):
        return str(error)
    known = {each.name for each in fields(settings)}
    field = error.field.split("[")[0]
    return with_flags(f"{flag(field)}: {error.problem}" if field in known else str(error), settings)


def with_flags(message: str, settings: type) -> str:
    """Return a message in which settings of two words or more have the names of their flags."""
    known = {each.name for each in fields(settings)}

    def named(name: re.Match[str]) -> str:
        return flag(name[0]) if name[0] in known else name[0]

    return _NAME.sub(named, message)


def _given(tokens: Sequence[str], file: Mapping[str, Any], setting: str) -> Any:
    """Return what flags, else a file, give for a setting; None where neither does."""
    flag = f"--{setting.replace('_', '-')}"
    pairs = [(*token.split("=", 1), following) for token, following in pairwise([*tokens, ""])]
    return next((value for name, value, *_ in pairs if name == flag), file.get(setting))


def _shown_default(value: object) -> str | None:
    """Return what help shows of a default; nothing where a setting is off or empty."""
    if value is None or value is False or value in ((), ""):
        return None
    return str(value.value if isinstance(value, Enum) else value)


def _app(settings: type[S], main: Callable[[S], None], name: str) -> App:
    """Make a command whose flags are the fields of a settings dataclass."""
    shown = Parameter(show_default=_shown_default)
    app = App(
        name=name,
        help=settings.__doc__,
        version_flags=(),
        default_parameter=shown,
        help_formatter=HelpWithRanges(settings),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    app["--help"].group = "Parameters"

    def call(values: S) -> None:
        main(values)

    call.__annotations__["values"] = settings
    if not any(f.default is MISSING and f.default_factory is MISSING for f in fields(settings)):  # type: ignore[arg-type]
        call.__defaults__ = (settings(),)
    app.default(call)
    return app
