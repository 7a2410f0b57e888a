"""From a pattern and a vocabulary to an automaton: which symbols may come in each state."""

import string
from collections import deque
from dataclasses import dataclass

from serving.constraints.positions import PatternError, Positions, bits

STATES_AT_MOST = 4096
NONE = -1  # no state: the symbol may not come
MISSING_NAMED = 8  # symbols that an error names


@dataclass(frozen=True, kw_only=True)
class Construction:
    """An automaton whose every state leads to a whole match; the first state is the beginning.

    Attributes:
        class_of: of each symbol of the vocabulary.
        rows: the next state by class, of each state; NONE where a symbol of the class may not come.
        accepting: whether each state is a whole match.
    """

    class_of: list[int]
    rows: list[list[int]]
    accepting: list[bool]


def construct(pattern: str, symbols: str, end: str = "") -> Construction:
    """Construct the automaton of a pattern.

    Args:
        pattern: in Python's syntax.
        symbols: the vocabulary, in order.
        end: the symbol that no match has, as it ends every text; empty for none.

    Raises:
        PatternError: the pattern is wrong, not regular or too large, or it has no match in these
            symbols.
    """
    positions = Positions(pattern, symbols)
    rows, accepting = _subsets(positions, _without(positions, symbols, end))
    keep = _leading_on(rows, accepting)
    if 0 not in keep:
        raise PatternError(_why_no_match(pattern, symbols, end, positions))
    number = {state: place for place, state in enumerate(sorted(keep))}
    return Construction(
        class_of=[each if symbol != end else NONE for each, symbol in _paired(positions, symbols)],
        rows=[[number.get(to, NONE) for to in rows[state]] for state in sorted(keep)],
        accepting=[accepting[state] for state in sorted(keep)],
    )


def _paired(positions: Positions, symbols: str) -> list[tuple[int, str]]:
    return list(zip(positions.class_of, symbols, strict=True))


def _without(positions: Positions, symbols: str, banned: str) -> list[int]:
    """Return the positions of each class; none of one all of whose symbols are banned."""
    there = {each for each, symbol in _paired(positions, symbols) if symbol != banned}
    return [at if each in there else 0 for each, at in enumerate(positions.of_class)]


def _subsets(positions: Positions, of_class: list[int]) -> tuple[list[list[int]], list[bool]]:
    """Construct the reachable sets of positions, breadth first, and whether each is a match."""
    whole = positions.whole
    states = {-1: 0}  # the beginning, which is no set of positions
    accepting, rows = [whole.nullable], []
    queue = deque([whole.first])  # what may come in each state that has no row yet
    while queue:
        following, row = queue.popleft(), []
        for at in of_class:
            reached = following & at
            if not reached:
                row.append(NONE)
                continue
            if reached not in states:
                if len(states) == STATES_AT_MOST:
                    raise PatternError(
                        f"has an automaton of more than {STATES_AT_MOST:,} states; write it with "
                        "fewer or smaller counted repeats"
                    )
                states[reached] = len(states)
                accepting.append(bool(reached & whole.last))
                queue.append(_follow(positions.follow, reached))
            row.append(states[reached])
        rows.append(row)
    return rows, accepting


def _follow(follow: list[int], reached: int) -> int:
    following = 0
    for position in bits(reached):
        following |= follow[position]
    return following


def _leading_on(rows: list[list[int]], accepting: list[bool]) -> set[int]:
    """Return the states from which a whole match can be reached."""
    before: list[set[int]] = [set() for _ in rows]
    for state, row in enumerate(rows):
        for to in row:
            if to != NONE:
                before[to].add(state)
    left = [state for state, is_match in enumerate(accepting) if is_match]
    found = set(left)
    while left:
        more = before[left.pop()] - found
        found |= more
        left.extend(more)
    return found


def _why_no_match(pattern: str, symbols: str, end: str, positions: Positions) -> str:
    """Name the fewest symbols with which the pattern had a match."""
    others = positions.named | set(string.printable)
    lacking = "".join(sorted(others - (set(symbols) - {end})))
    alphabet = "".join(symbol for symbol in symbols if symbol != end) + lacking
    all_of_them = Positions(pattern, alphabet)
    rows, accepting = _subsets(all_of_them, all_of_them.of_class)
    symbol_of: dict[int, str] = {}  # one of each class, of the vocabulary if it has any
    for each, symbol in zip(all_of_them.class_of, alphabet, strict=True):
        symbol_of.setdefault(each, symbol)
    missing = _fewest(rows, accepting, symbol_of, set(lacking))
    if missing is None:
        return "has no match in the symbols of the model's vocabulary"
    named = ", ".join(f"{each!r} (U+{ord(each):04X})" for each in missing[:MISSING_NAMED])
    more = f" and {len(missing) - MISSING_NAMED} more" if len(missing) > MISSING_NAMED else ""
    why = ", which ends every text of this model" if missing == [end] else ""
    return f"has no match without {named}{more}{why}; the model's vocabulary has no such symbols"


def _fewest(
    rows: list[list[int]], accepting: list[bool], symbol_of: dict[int, str], lacking: set[str]
) -> list[str] | None:
    """Return the lacking symbols of a match with the fewest places for such."""
    way: dict[int, tuple[str, ...]] = {}
    queue: deque[tuple[int, tuple[str, ...]]] = deque([(0, ())])
    while queue:
        state, missing = queue.popleft()
        if state in way:
            continue
        way[state] = missing
        if accepting[state]:
            return list(dict.fromkeys(missing))
        for each, to in enumerate(rows[state]):
            if to != NONE and symbol_of[each] in lacking:
                queue.append((to, (*missing, symbol_of[each])))
            elif to != NONE:
                queue.appendleft((to, missing))
    return None
