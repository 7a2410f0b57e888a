"""Ranges of numbers, written where a setting is annotated and checked from there."""

import math
from dataclasses import dataclass
from typing import Any, get_type_hints

from unroll.errors import InputError, SettingsError

COUNT = 2**31 - 1  # the most of anything that is counted
GROUPED_FROM = 10**5  # smaller ones, such as a port, are read at a glance


@dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds: `Annotated[int, Range(1, 64)]`.

    Args:
        least: the lowest number allowed.
        most: the highest number allowed.
        above: what numbers must be above, in place of `least`.
        below: what numbers must be below, in place of `most`.
        also: a number that is allowed beside them.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    also: float | None = None

    def __contains__(self, value: float) -> bool:
        """Tell whether a number is allowed; NaN and infinity never are."""
        return value == self.also or (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        return self._told if self.also is None else f"{_plain(self.also)} or {self._told}"

    @property
    def _told(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{_plain(self.least)} to {_plain(self.most)}"
        bounds = {
            "at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
        told = [f"{word} {_plain(bound)}" for word, bound in bounds.items() if bound is not None]
        return " and ".join(told)


def ranges_of(settings: type) -> dict[str, Range]:
    """Return the range of each setting that has one, by the setting's name."""
    hints = get_type_hints(settings, include_extras=True)
    return {
        name: extra
        for name, hint in hints.items()
        for extra in getattr(hint, "__metadata__", ())
        if isinstance(extra, Range)
    }


def ranges_of_flags(settings: type) -> dict[str, Range]:
    """Return the range of each setting that has one, by the setting's flag."""
    return {flag(name): allowed for name, allowed in ranges_of(settings).items()}


def check_ranges(settings: object) -> None:
    """Check that each setting lies in its range; None, where a setting allows it, has none.

    Raises:
        SettingsError: one does not; the message names it, its value, its range and its flag.
    """
    for name, allowed in ranges_of(type(settings)).items():
        value = getattr(settings, name)
        if value is not None and value not in allowed:
            raise wrong_setting(name, value, allowed)


def check_number(field: str, number: float, allowed: Range) -> None:
    """Check that a number of a request lies in its range.

    Raises:
        InputError: it does not; the message names the field, its range and the number.
    """
    if number not in allowed:
        told = number if isinstance(number, int) else f"{number:g}"
        raise InputError(field, f"must be {allowed}, got {told}")


def wrong_setting(name: str, value: Any, allowed: object) -> SettingsError:
    """Return the error for a setting's value, with what is allowed and the flag to change."""
    return SettingsError(f"{name} = {value!r}: must be {allowed}; change {flag(name)}")


def flag(name: str) -> str:
    """Return the flag of a setting, as a command line has it."""
    return "--" + name.strip("_").replace("_", "-")


def _plain(bound: float) -> str:
    if isinstance(bound, int):
        return f"{bound:,}" if bound >= GROUPED_FROM else str(bound)
    return f"{bound:g}"
