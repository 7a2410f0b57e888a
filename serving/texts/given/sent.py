"""Options as they would arrive at a server, so that a text is the same in both places."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_float
from dataclasses import fields, replace
from numbers import Real
from operator import index
from typing import Any, TypeVar

from unroll.errors import InputError, UnrollError, shown
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import Unit
from unroll.terms import WITHIN_SAMPLING, Capsules, UnknownSymbols

O = TypeVar(  # noqa: E741
    "O",
    GenerateOptions,
    ScoreOptions,
    InspectOptions,
    FindUnitsOptions,
    SessionOptions,
    Origin,
)
_BITS = {
    "max_new_symbols": 31, "seed": 63, "top_k": 31, "sample_count": 31, "expected_position": 63,
    "top_log_probs": 31, "unit_count": 31,
}  # fmt: skip
_SINGLE = {"temperature", "top_p", "min_p"}
_KINDS: Mapping[str, type] = {
    "model": str, "replacement_symbol": str, "session": str, "capsule": bytes, "log_probs": bool,
    "capsules": Capsules, "unknown_symbols": UnknownSymbols, "pattern": str, "json_schema": str,
}  # fmt: skip


def as_sent(options: O) -> O:
    """Return options as a server would read them: numbers in the proto's precision.

    Raises:
        InputError: a value does not fit its field at all; ranges are checked later.
    """
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return replace(options, **{n: _sent(n, v) for n, v in values.items() if v is not None})


def text_as_sent(field: str, text: str) -> str:
    """Check that a text is one; raises as as_sent does."""
    if not isinstance(text, str):
        raise InputError(field, f"must be a text, got {shown(repr(text))}")
    return text


def as_option(error: UnrollError) -> UnrollError:
    """Name what is wrong as options do: `temperature`, where protos say `sampling.temperature`."""
    if isinstance(error, InputError) and error.field.startswith(WITHIN_SAMPLING):
        return type(error)(error.field.removeprefix(WITHIN_SAMPLING), error.problem)
    return error


@contextmanager
def named_as_options() -> Iterator[None]:
    """Name what is wrong as options do, where the block raises it."""
    try:
        yield
    except InputError as error:
        if (named := as_option(error)) is error:
            raise
        raise named from error


def seeds_as_sent(seeds: Iterable[int]) -> list[int]:
    """Check that seeds are whole numbers; raises as as_sent does."""
    return [_whole(f"seeds[{place}]", seed, 63) for place, seed in enumerate(seeds)]


def _sent(name: str, value: Any) -> Any:
    if name in _BITS:
        return _whole(name, value, _BITS[name])
    if name in _SINGLE:
        return _number(name, value)
    if name == "logit_bias":
        if not isinstance(value, Mapping):
            raise InputError(name, f"must be a mapping, got {shown(repr(value))}")
        return {text_as_sent(name, key): _number(name, bias) for key, bias in value.items()}
    if name == "stop":
        return tuple(text_as_sent(f"stop[{place}]", stop) for place, stop in enumerate(value))
    if name == "units":
        return tuple(_unit(f"units[{place}]", unit) for place, unit in enumerate(value))
    if not isinstance(value, _KINDS[name]):
        kind = _KINDS[name].__name__
        raise InputError(name, f"must be of type {kind}, got {shown(repr(value))}")
    return value


def _unit(path: str, unit: Unit) -> Unit:
    return replace(
        unit,
        member=_whole(f"{path}.member", unit.member, 31),
        layer=_whole(f"{path}.layer", unit.layer, 31),
        index=_whole(f"{path}.index", unit.index, 31),
    )


def _number(path: str, value: Any) -> float:
    if not isinstance(value, Real):
        raise InputError(path, f"must be a number, got {shown(repr(value))}")
    return c_float(float(value)).value


def _whole(path: str, value: Any, bits: int) -> int:
    try:
        number = index(value)
    except TypeError as error:
        raise InputError(path, f"must be a whole number, got {shown(repr(value))}") from error
    if not -(2**bits) <= number < 2**bits:
        raise InputError(path, f"must be below 2^{bits}, got {number}")
    return number
