"""Traits of a text that a unit may have learned to track, symbol by symbol."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 100  # of a line or a word; from there on the position stays the same


@dataclass(frozen=True, kw_only=True)
class Trait:
    """Something that holds, or has a size, after each symbol of a text.

    Attributes:
        name: how it is called.
        is_number: whether it has a size; else it holds or not.
        of: gives its value after each symbol, (symbols,); NaN where it has none.
    """

    name: str
    is_number: bool
    of: Callable[[str], NDArray[np.float64]]


def inside_quotes(text: str) -> NDArray[np.float64]:
    """Return 1 inside double quotation marks, the closing one outside; a blank line ends them."""
    values, inside, previous = np.zeros(len(text)), False, ""
    for i, symbol in enumerate(text):
        if symbol == '"':
            inside = not inside
        elif symbol == "“":
            inside = True
        elif symbol == "”" or symbol == previous == "\n":
            inside = False
        values[i], previous = inside, previous if symbol == " " else symbol
    return values


def inside_brackets(text: str) -> NDArray[np.float64]:
    """Return 1 inside round or square brackets, the closing one outside; a blank line ends them."""
    values, depth, previous = np.zeros(len(text)), 0, ""
    for i, symbol in enumerate(text):
        if symbol in "([":
            depth += 1
        elif symbol in ")]":
            depth = max(0, depth - 1)
        elif symbol == previous == "\n":
            depth = 0
        values[i], previous = depth > 0, previous if symbol == " " else symbol
    return values


def in_capitalised_word(text: str) -> NDArray[np.float64]:
    """Return 1 in a word that began with a capital, 0 in others, NaN between words.

    The first letter itself is left out, since it says so by itself.
    """
    values, capital, length = np.full(len(text), np.nan), False, 0
    for i, symbol in enumerate(text):
        length = length + 1 if symbol.isalpha() else 0
        if length == 1:
            capital = symbol.isupper()
        elif length > 1:
            values[i] = capital
    return values


def line_position(text: str) -> NDArray[np.float64]:
    """Return the number of symbols since the last newline, at most LONGEST."""
    values, since = np.zeros(len(text)), 0
    for i, symbol in enumerate(text):
        since = 0 if symbol == "\n" else since + 1
        values[i] = min(since, LONGEST)
    return values


def word_position(text: str) -> NDArray[np.float64]:
    """Return the number of letters of the word so far, 0 between words, at most LONGEST."""
    values, letters = np.zeros(len(text)), 0
    for i, symbol in enumerate(text):
        letters = letters + 1 if symbol.isalpha() else 0
        values[i] = min(letters, LONGEST)
    return values


TRAITS = (
    Trait(name="inside quotation marks", is_number=False, of=inside_quotes),
    Trait(name="inside brackets", is_number=False, of=inside_brackets),
    Trait(name="in a word with a capital", is_number=False, of=in_capitalised_word),
    Trait(name="position in the line", is_number=True, of=line_position),
    Trait(name="position in the word", is_number=True, of=word_position),
)
