"""The fields of a request in JSON, each read as what it must be."""

import json
from math import isfinite
from typing import Any

from unroll.errors import InputError, shown

Schema = dict[str, Any]
TEXTS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


class Fields:
    """An object of JSON; a field that is null is as good as absent.

    Args:
        values: by name.

    Attributes:
        values: by name; none is null.
        known: JSON Schema of each field that was asked for, by name.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = {name: value for name, value in values.items() if value is not None}
        self.known: dict[str, Schema] = {}

    def get(self, name: str, schema: Schema) -> Any:
        """Return a field as it is; None if it is absent.

        Args:
            name: of the field.
            schema: of what it may be beside null.
        """
        self.known[name] = {"anyOf": [schema, {"type": "null"}]}
        return self.values.get(name)

    def text(self, name: str) -> str:
        """Return a text; empty if it is absent."""
        return self._of_kind(name, str, "string", "a text") or ""

    def truth(self, name: str) -> bool:
        """Return a truth value; false if it is absent."""
        return self._of_kind(name, bool, "boolean", "true or false") or False

    def whole(self, name: str) -> int | None:
        """Return a whole number."""
        value: int | None = self._of_kind(name, int, "integer", "a whole number")
        return value

    def number(self, name: str) -> float | None:
        """Return a finite number."""
        value = self._of_kind(name, (int, float), "number", "a number")
        if value is None:
            return None
        try:
            number = float(value)
        except OverflowError as error:
            raise InputError(name, f"is too large, got {shown(value)}") from error
        if not isfinite(number):
            raise InputError(name, f"must be finite, got {number}")
        return number

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a text or a list of texts."""
        value = self.get(name, TEXTS)
        found = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in found):
            raise InputError(name, f"must be a text or a list of texts, got {shown(value)}")
        return tuple(found)

    def choice(self, name: str, of: dict[str, Any]) -> Any:
        """Return what one of several words stands for; None if it is absent."""
        word = self.text(name)
        self.known[name] = {"enum": [None, "", *of]}
        if word and word not in of:
            raise InputError(name, f"must be one of {', '.join(of)}, got {shown(word)}")
        return of.get(word)

    def refuse(self, name: str, *harmless: object, advice: str) -> None:
        """Check that a field which cannot be heeded asks for nothing.

        Args:
            name: of the field.
            harmless: what it may be.
            advice: what to do.
        """
        value = self.get(name, {"enum": [*harmless]})
        is_harmless = value in harmless and not isinstance(value, bool)  # False is as good as 0
        if value is not None and not is_harmless:
            raise InputError(name, f"is not supported; {advice}")

    def check_all_known(self) -> None:
        """Check that no field was left unread.

        Raises:
            InputError: names the first one and all that there are.
        """
        for name in self.values:
            if name not in self.known:
                known = ", ".join(sorted(self.known))
                raise InputError(name[:100], f"is not a field of this request; known: {known}")

    def _of_kind(self, name: str, kind: type | tuple[type, ...], json_kind: str, what: str) -> Any:
        value = self.get(name, {"type": json_kind})
        is_truth = isinstance(value, bool) and kind is not bool
        if value is not None and (is_truth or not isinstance(value, kind)):
            raise InputError(name, f"must be {what}, got {shown(value)}")
        return value


def read_object(name: str, data: str | bytes) -> dict[str, Any]:
    """Read JSON, in UTF-8, that must be an object.

    Raises:
        InputError: it is none; `name` tells where it stands.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(name, f"is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(name, f"must be a JSON object, got {shown(values)}")
    return values
