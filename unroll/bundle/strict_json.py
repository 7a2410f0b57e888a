"""JSON that says one thing: no key twice, no number out of range, no text that is not Unicode."""

import json
from collections import Counter
from math import isfinite
from typing import Any

INTEGER_LIMIT = 2**63


def parse(data: bytes) -> Any:
    """Read JSON in UTF-8 whose numbers are finite and whose integers are in [0, 2^63).

    Raises:
        ValueError: it is not; says what and where.
    """
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
        _check(values, "")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} is there twice")
    return dict(pairs)


def _check(value: Any, where: str) -> None:
    match value:
        case bool():
            raise ValueError(f"{where} = {value}: there is no truth value in it")
        case int() if not 0 <= value < INTEGER_LIMIT:
            raise ValueError(f"{where} = {value:.3g}: must be a whole number from 0 to 2^63 - 1")
        case float() if not isfinite(value):
            raise ValueError(f"{where} = {value}: must be a finite number")
        case str():
            _check_text(value, where)
        case list():
            for index, each in enumerate(value):
                _check(each, f"{where}[{index}]")
        case dict():
            for key, each in value.items():
                _check_text(key, where)
                _check(each, f"{where}.{key}".lstrip("."))


def _check_text(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"{where}: U+{code:04X} is half a surrogate pair, no symbol") from error
