"""What is told of a command line, or of a file of settings, that cannot be read."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from cyclopts import (
    App,
    Argument,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    default_name_transform,
)

from unroll.errors import SettingsError, UnrollError, nearest, shown
from unroll.ranges import Range, flag, ranges_of_flags, wrong_setting

LIKENESS = 0.7  # of a choice that is suggested: gpu is no misspelt cpu
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def refusal(
    error: CycloptsError | UnrollError,
    settings: type | None,
    options: Sequence[str],
    loose: str = "",
) -> UnrollError:
    """Return an error in our words; one of ours stays as it is.

    Args:
        error: what cyclopts, or a command, refused.
        settings: the dataclass that was read; None of `unroll` itself, which has none.
        options: those that are no settings.
        loose: the setting that a word without a flag is probably meant for; empty for none.
    """
    ranges = {} if settings is None else ranges_of_flags(settings)
    known = [*options, *([] if settings is None else map(flag, _names(settings)))]
    match error:
        case UnrollError():
            return error
        case CoercionError(argument=Argument() as argument, token=token) if token is not None:
            wanted = _wanted(argument.hint, ranges.get(argument.name))
            return _wrong_value(argument, token.value, token.source, wanted)
        case UnknownOptionError(token=token) if token.source != "cli":
            name = (token.keyword or "").strip("[").partition("]")[0]
            return SettingsError(f"{token.source}: {name}: takes a value, and no table")
        case UnknownOptionError(token=token):
            return _unknown_option(token.keyword or token.value, known)
        case MissingArgumentError(argument=Argument() as argument):
            wanted = _wanted(argument.hint, ranges.get(argument.name))
            return _missing(argument, error.keyword, wanted, error.unused_tokens or ())
        case RepeatArgumentError(token=token):
            return SettingsError(f"{token.keyword}: is given twice; give it once")
        case UnknownCommandError(unused_tokens=[word, *_]) if word.startswith("-"):
            return _unknown_option(word, known)
        case UnknownCommandError(unused_tokens=[word, *_], app=App() as app):
            commands = [name for name in app if not name.startswith("-")]
            return SettingsError(f"there is no command {word!r}; {nearest(word, commands)}")
        case UnusedCliTokensError(unused_tokens=[first, *_] as words):
            advice = f"; did you mean {flag(loose)} {shown(first)}?" if loose else ""
            told = " ".join(map(shown, words))
            return SettingsError(f"{told}: every setting has a flag before it{advice}")
    error.verbose = False
    return SettingsError(" ".join(str(error).split()))


def refuse_fractions(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse fractions for whole numbers, which cyclopts would round.

    Raises:
        CoercionError: a flag or a file gives one.
    """
    for argument in arguments:
        if argument.hint not in {int, int | None}:
            continue
        for token in argument.tokens:
            with suppress(ValueError):  # cyclopts tells of what is no number at all
                if "." in token.value and not float(token.value).is_integer():
                    raise CoercionError(argument=argument, token=token, target_type=int)


def _names(settings: type) -> list[str]:
    return [field.name for field in fields(settings)]


def _wrong_value(argument: Argument, value: str, source: str, wanted: str) -> SettingsError:
    name = argument.name.lstrip("-").replace("-", "_")
    close = get_close_matches(value.lower(), _choices(argument.hint), n=1, cutoff=LIKENESS)
    allowed = wanted + (f" (did you mean {close[0]!r}?)" if close else "")
    if source == "cli":
        return wrong_setting(name, value, allowed)
    return SettingsError(f"{source}: {name} = {value!r}: must be {allowed}")


def _unknown_option(option: str, known: Iterable[str]) -> SettingsError:
    option = option.partition("=")[0]
    if option in known:
        return SettingsError(f"{option}: takes no value")
    close = get_close_matches(option, known, n=1)
    advice = f"did you mean {close[0]}?" if close else "--help lists all"
    return SettingsError(f"there is no option {option}; {advice}")


def _missing(
    argument: Argument, keyword: str | None, wanted: str, tokens: Sequence[str]
) -> SettingsError:
    misspelt = get_close_matches(argument.name, tokens, n=1)
    if keyword is None and misspelt:
        return _unknown_option(misspelt[0], [argument.name])
    what = "needs a value" if keyword else "must be given"
    return SettingsError(f"{argument.name}: {what}, {wanted}; write {argument.name}=VALUE")


def _wanted(hint: Any, allowed: Range | None) -> str:
    """Return what a setting's value must be, as an error says it."""
    choices = _choices(hint)
    if choices:
        *others, last = map(repr, choices)
        return f"{', '.join(others)} or {last}" if others else last
    kind = _KINDS.get(_some(hint), "a text")
    return kind if allowed is None else f"{kind}, {allowed}"


def _choices(hint: Any) -> list[str]:
    some = _some(hint)
    if get_origin(some) is Literal:
        return [str(each) for each in get_args(some)]
    if isinstance(some, type) and issubclass(some, Enum):
        return [default_name_transform(name) for name in some.__members__]
    return []


def _some(hint: Any) -> Any:
    """Return a type without the None that it may be, too."""
    kinds = [each for each in get_args(hint) if each is not NoneType]
    return kinds[0] if isinstance(hint, UnionType) and len(kinds) == 1 else hint
