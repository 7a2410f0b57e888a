"""A regular expression as positions, each a set of symbols, and which may follow which.

Python's own parser reads it, and Python's own matcher says which symbols a piece of it takes, so a
pattern means here what `re.fullmatch` means by it. The construction is Glushkov's (The abstract
theory of automata, 1961): a set of positions is the bits of an int.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from re import IGNORECASE, error
from re import _compiler as compiler  # type: ignore[attr-defined]  # typeshed does not know it
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

POSITIONS_AT_MOST = 8192
NOT_REGULAR = {
    op.ASSERT: "a lookahead or lookbehind",
    op.ASSERT_NOT: "a negative lookahead or lookbehind",
    op.GROUPREF: "a reference to a group",
    op.GROUPREF_EXISTS: "a condition on a group",
    op.ATOMIC_GROUP: "an atomic group",
    op.POSSESSIVE_REPEAT: "a possessive repeat",
    op.AT: "^, $ or a word's boundary inside it",
    op.FAILURE: "a piece that never matches",
}
LEAVES = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN)
BEGINS = (op.AT_BEGINNING, op.AT_BEGINNING_STRING)
ENDS = (op.AT_END, op.AT_END_STRING)


class PatternError(ValueError):
    """A pattern cannot be used; says why."""


@dataclass(frozen=True)
class Part:
    """A part of an expression: whether it matches nothing, and where its matches begin and end."""

    nullable: bool
    first: int
    last: int


NOTHING = Part(nullable=True, first=0, last=0)


class Positions:
    """The positions of a pattern over an alphabet.

    Args:
        pattern: in Python's syntax.
        alphabet: distinct symbols.

    Attributes:
        class_of: of each symbol of the alphabet; symbols of a class are in the same positions.
        of_class: the positions that take a class's symbols.
        follow: of each position, those that may follow it.
        whole: the expression.
        named: the symbols that the pattern names, of which the alphabet may lack some.

    Raises:
        PatternError: the pattern is wrong, not regular, or too large.
    """

    def __init__(self, pattern: str, alphabet: str) -> None:
        self.follow: list[int] = []
        self.named: set[str] = set()
        self._alphabet = alphabet
        self._sets: dict[tuple[str, int], int] = {}  # of a leaf, the number of its set
        self._members: list[bytes] = []  # of each set: whether it holds each symbol
        self._set_at: list[int] = []  # of each position
        try:
            parsed = parser.parse(pattern)
            self._state = parsed.state
            self.whole = self._sequence(_without_anchors(parsed), parsed.state.flags)
        except PatternError:
            raise
        except (error, OverflowError) as wrong:
            raise PatternError(f"is not a regular expression: {wrong}") from wrong
        except RecursionError as wrong:
            raise PatternError("is nested too deeply") from wrong
        self.class_of, self.of_class = self._classes()

    def _classes(self) -> tuple[list[int], list[int]]:
        """Put symbols that no set tells apart into one class."""
        at: list[int] = [0] * len(self._members)
        for position, number in enumerate(self._set_at):
            at[number] |= 1 << position
        numbers: dict[bytes, int] = {}
        columns = map(bytes, zip(*self._members, strict=True))
        class_of = [numbers.setdefault(column, len(numbers)) for column in columns]
        of_class = [
            sum(at[number] for number, is_in in enumerate(column) if is_in) for column in numbers
        ]
        return class_of or [0] * len(self._alphabet), of_class or [0]

    def _sequence(self, nodes: Any, flags: int) -> Part:
        whole = NOTHING
        for node in nodes:
            whole = self._then(whole, self._part(node, flags))
        return whole

    def _part(self, node: Any, flags: int) -> Part:
        kind, value = node
        if kind in LEAVES:
            return self._leaf(node, flags)
        if kind is op.BRANCH:
            return self._branch(self._sequence(each, flags) for each in value[1])
        if kind is op.SUBPATTERN:
            _, more, fewer, inner = value
            return self._sequence(inner, (flags | more) & ~fewer)
        if kind in {op.MAX_REPEAT, op.MIN_REPEAT}:
            least, most, inner = value
            return self._repeat(lambda: self._sequence(inner, flags), least, most)
        raise PatternError(f"has {NOT_REGULAR.get(kind, str(kind))}, which no automaton can follow")

    def _branch(self, parts: Iterator[Part]) -> Part:
        nullable, first, last = False, 0, 0
        for part in parts:
            nullable, first, last = (
                nullable or part.nullable,
                first | part.first,
                last | part.last,
            )
        return Part(nullable, first, last)

    def _repeat(self, make: Callable[[], Part], least: int, most: int) -> Part:
        whole = NOTHING
        if most is op.MAXREPEAT:
            for _ in range(max(least - 1, 0)):
                whole = self._then(whole, make())
            last = make()
            self._link(last.last, last.first)
            return self._then(whole, Part(last.nullable or not least, last.first, last.last))
        for _ in range(least):
            whole = self._then(whole, make())
        tail = NOTHING
        for _ in range(most - least):  # from the inside out: x(x(x)?)?
            tail = self._then(make(), tail)
            tail = Part(True, tail.first, tail.last)
            if not tail.first:
                break
        return self._then(whole, tail)

    def _then(self, one: Part, other: Part) -> Part:
        self._link(one.last, other.first)
        return Part(
            one.nullable and other.nullable,
            one.first | (other.first if one.nullable else 0),
            other.last | (one.last if other.nullable else 0),
        )

    def _link(self, last: int, first: int) -> None:
        if first:
            for position in bits(last):
                self.follow[position] |= first

    def _leaf(self, node: Any, flags: int) -> Part:
        if len(self.follow) >= POSITIONS_AT_MOST:
            raise PatternError(
                f"has more than {POSITIONS_AT_MOST:,} places for a symbol, with repeats expanded; "
                "write it with fewer or smaller counted repeats"
            )
        position = 1 << len(self.follow)
        self.follow.append(0)
        self._set_at.append(self._set_of(node, flags))
        return Part(False, position, position)

    def _set_of(self, node: Any, flags: int) -> int:
        key = (repr(node), flags)
        if key not in self._sets:
            self.named |= set(_named(node, flags))
            state = copy(self._state)
            state.flags = flags
            takes = compiler.compile(parser.SubPattern(state, [node])).fullmatch
            self._sets[key] = len(self._members)
            self._members.append(bytes(takes(symbol) is not None for symbol in self._alphabet))
        return self._sets[key]


def bits(number: int) -> Iterator[int]:
    """Yield the places of a number's ones, from the lowest up."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _without_anchors(parsed: Any) -> list[Any]:
    """Leave out a beginning's ^ and an end's $: the whole text is matched anyway."""
    nodes = list(parsed)
    if nodes and nodes[0][0] is op.AT and nodes[0][1] in BEGINS:
        nodes = nodes[1:]
    if nodes and nodes[-1][0] is op.AT and nodes[-1][1] in ENDS:
        nodes = nodes[:-1]
    return nodes


def _named(node: Any, flags: int) -> Iterator[str]:
    """Yield the symbols that a leaf takes by name."""
    kind, value = node
    if kind is op.LITERAL:
        yield chr(value)
        if flags & IGNORECASE:
            yield from (each for each in (chr(value).lower(), chr(value).upper()) if len(each) == 1)
    elif kind is op.IN:
        for each, what in value:
            if each is op.LITERAL:
                yield chr(what)
            elif each is op.RANGE:
                yield from map(chr, what)
