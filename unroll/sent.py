"""What callers give in Python, checked and read as it arrives at a server.

Clients check it before they send it, and models in this process before they read it, so that both
refuse the same with the same error, and a text is the same in both places.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from enum import Enum
from functools import cache
from math import isnan
from numbers import Real
from operator import index
from typing import Any, TypeVar

from unroll.errors import InputError, shown
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.ranges import Range, check_number, ranges_of
from unroll.results import Unit
from unroll.terms import STOP_LENGTH_AT_MOST, Capsules, UnitKind, UnknownSymbols

O = TypeVar(  # noqa: E741
    "O",
    GenerateOptions,
    ScoreOptions,
    InspectOptions,
    FindUnitsOptions,
    SessionOptions,
    Origin,
)
MOST_ADVISED = 64  # symbols of a text in advice on how to write it
_BITS = {
    "max_new_symbols": 31, "seed": 63, "top_k": 31, "sample_count": 31, "expected_position": 63,
    "top_log_probs": 31, "unit_count": 31,
}  # fmt: skip
_SINGLE = {"temperature", "top_p", "min_p"}
_TERMS = {"capsules": Capsules, "unknown_symbols": UnknownSymbols}
_TEXTS = {"model", "replacement_symbol", "session", "pattern", "json_schema"}
_KINDS: Mapping[str, tuple[type, str]] = {
    "log_probs": (bool, "True or False"),
    "capsule": (bytes, "bytes"),
}


def as_sent(options: O) -> O:
    """Return options as a server would read them: numbers in the proto's precision, None as unset.

    Raises:
        InputError: a value is of the wrong type or out of its range; what a model or a server
            limits is checked later.
    """
    changed: dict[str, Any] = {}
    kind: Any = type(options)
    ranges = _ranges(kind)
    for field in fields(options):
        value = getattr(options, field.name)
        if value is not field.default:
            sent: Any = field.default if value is None else _sent(field.name, value)
            if sent is not None and field.name in ranges:
                check_number(field.name, sent, ranges[field.name])
            if sent is not value:
                changed[field.name] = sent
    return replace(options, **changed) if changed else options


def check_options(method: str, options: object, wanted: type) -> None:
    """Check that options are those of a method.

    Raises:
        InputError: they are not; the message names the method, what came and what is wanted.
    """
    if not isinstance(options, wanted):
        told = f"{method} takes unroll.{wanted.__name__}, got {shown(options)}"
        raise InputError("options", told)


def text_as_sent(field: str, text: str) -> str:
    """Check that a text is one; raises as as_sent does."""
    if not isinstance(text, str):
        raise InputError(field, f"must be a string, got {shown(text)}")
    return text


def texts_as_sent(field: str, texts: Iterable[str]) -> Iterable[str]:
    """Check that texts are several, and not one; raises as as_sent does."""
    if isinstance(texts, str):
        advice = f"; write [{texts!r}]" if len(texts) <= MOST_ADVISED else ""
        problem = f"must be an iterable of strings, got the string {shown(texts)}{advice}"
        raise InputError(field, problem)
    if not isinstance(texts, Iterable):
        raise InputError(field, f"must be an iterable of strings, got {shown(texts)}")
    return texts


def targets_as_sent(targets: Any) -> str:
    """Return which symbols are marked, as a text of 1 and 0; raises as as_sent does.

    Args:
        targets: such a text, or for each symbol whether it is marked.
    """
    if isinstance(targets, str):
        return targets
    marked = [*targets] if isinstance(targets, Iterable) else [None]
    if any(mark not in (True, False) for mark in marked):
        problem = "must be a text of 1 and 0, or True or False for each symbol, got"
        raise InputError("targets", f"{problem} {shown(targets)}")
    return "".join("1" if mark else "0" for mark in marked)


def seconds_as_sent(timeout: float | None) -> float | None:
    """Check that a timeout is a number of seconds, or None; raises as as_sent does."""
    if timeout is not None and (not _is_number(timeout) or isnan(timeout)):
        raise InputError("timeout", f"must be a number of seconds, or None, got {shown(timeout)}")
    if timeout is not None and timeout < 0:
        raise InputError("timeout", f"must be 0 or more seconds, or None, got {shown(timeout)}")
    return timeout


def truth_as_sent(field: str, given: bool) -> bool:
    """Check that a truth value is one; raises as as_sent does."""
    if not isinstance(given, bool):
        raise InputError(field, f"must be True or False, got {shown(given)}")
    return given


def whole_as_sent(field: str, number: int) -> int:
    """Check that a number is a whole one; raises as as_sent does."""
    return _whole(field, number, 63)


def seeds_as_sent(seeds: Any) -> list[int]:
    """Check that seeds are several whole numbers; raises as as_sent does."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise InputError("seeds", f"must be an iterable of whole numbers, got {shown(seeds)}")
    return [_whole(f"seeds[{place}]", seed, 63) for place, seed in enumerate(seeds)]


@cache
def _ranges(options: Any) -> dict[str, Range]:
    return ranges_of(options)


def _sent(name: str, value: Any) -> Any:
    if name in _BITS:
        return _whole(name, value, _BITS[name])
    if name in _SINGLE:
        return _number(name, value)
    if name in _TEXTS:
        return text_as_sent(name, value)
    if name in _TERMS:
        return _term(name, value, _TERMS[name])
    if name == "logit_bias":
        return _biases(name, value)
    if name == "stop":
        _check_listed(name, value, "strings")
        return tuple(_stop(f"stop[{place}]", stop) for place, stop in enumerate(value))
    if name == "units":
        _check_listed(name, value, "unroll.Unit")
        return tuple(_unit(f"units[{place}]", unit) for place, unit in enumerate(value))
    kind, called = _KINDS[name]
    if not isinstance(value, kind):
        raise InputError(name, f"must be {called}, got {shown(value)}")
    return value


def _stop(path: str, stop: Any) -> str:
    if not text_as_sent(path, stop):
        raise InputError(path, f"must have 1 to {STOP_LENGTH_AT_MOST} symbols, has 0")
    return str(stop)


def _check_listed(name: str, value: Any, of: str) -> None:
    if isinstance(value, str):
        advice = f"; write ({value!r},)" if of == "strings" and len(value) <= MOST_ADVISED else ""
        raise InputError(
            name, f"must be a tuple or list of {of}, got the string {shown(value)}{advice}"
        )
    if not isinstance(value, (tuple, list)):
        raise InputError(name, f"must be a tuple or list of {of}, got {shown(value)}")


def _biases(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise InputError(name, f"must be a mapping from symbols to numbers, got {shown(value)}")
    return {text_as_sent(name, symbol): _number(name, bias) for symbol, bias in value.items()}


def _unit(path: str, unit: Unit) -> Unit:
    if not isinstance(unit, Unit):
        raise InputError(path, f"must be an unroll.Unit, got {shown(unit)}")
    return replace(
        unit,
        member=_whole(f"{path}.member", unit.member, 31),
        layer=_whole(f"{path}.layer", unit.layer, 31),
        index=_whole(f"{path}.index", unit.index, 31),
        kind=_term(f"{path}.kind", unit.kind, UnitKind),
    )


def _term(path: str, value: Any, terms: type[Enum]) -> Any:
    if not isinstance(value, terms):
        *others, last = (f"unroll.{each}" for each in terms)
        allowed = f"{', '.join(others)} or {last}"
        raise InputError(path, f"must be {allowed}, got {shown(value)}")
    return value


def _number(path: str, value: Any) -> float:
    if not _is_number(value):
        raise InputError(path, f"must be a number, got {shown(value)}")
    try:
        return array("f", (float(value),))[0]  # what is beyond 32 bits becomes infinite
    except OverflowError as error:
        raise InputError(path, f"must be a number of 32 bits, got {shown(value)}") from error


def _whole(path: str, value: Any, bits: int) -> int:
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InputError(path, f"must be a whole number, got {shown(value)}")
    if not -(2**bits) <= number < 2**bits:
        raise InputError(path, f"must be 0 to 2^{bits} - 1, got {shown(number)}")
    return number


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
