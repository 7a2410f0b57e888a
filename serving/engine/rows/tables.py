"""The automata of a loop run's rows, laid one after another."""

import numpy as np
from numpy.typing import NDArray

from serving.engine.sequences.rules import NO_RULE, Rule
from serving.runtime.decoder import Automata

ENTRIES_AT_MOST = 2**21  # states times symbols of one loop run, 12 bytes each
NO_BEGINS = np.zeros(0, np.int64)


class Tables:
    """Lays out what rules say, and keeps what is laid while there is room.

    Args:
        entries_at_most: states times symbols of one loop run; more than any automaton has.
    """

    def __init__(self, entries_at_most: int = ENTRIES_AT_MOST) -> None:
        self._entries_at_most = entries_at_most
        self._waited: list[int] = []  # slots that had no room in the last loop run
        self._begin: dict[Rule, int] = {}  # the first state of each rule that is laid
        self._bias, self._next = np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
        self._final = np.zeros(0, np.bool_)

    def choose(self, rows: list[tuple[int, Rule]]) -> list[int]:
        """Return the slots whose rules one loop run has room for; the others come first next."""
        if self._has_room(dict.fromkeys(rule for _, rule in rows)):
            self._waited.clear()
            return [slot for slot, _ in rows]
        turn = {slot: place for place, slot in enumerate(self._waited)}
        in_turn = sorted(rows, key=lambda row: turn.get(row[0], len(turn)))
        laid = [NO_RULE]
        for rule in dict.fromkeys(rule for _, rule in in_turn):
            if rule is not NO_RULE and self._has_room(dict.fromkeys([*laid, rule])):
                laid.append(rule)
        chosen = set(laid)
        self._waited = [slot for slot, rule in in_turn if rule not in chosen]
        return [slot for slot, rule in rows if rule in chosen]

    def _has_room(self, rules: dict[Rule, None]) -> bool:
        symbols = max((rule.symbols for rule in rules), default=0)
        states = sum(rule.states for rule in {NO_RULE: None, **rules})
        return states * symbols <= self._entries_at_most

    def lay(self, rules: list[Rule]) -> NDArray[np.int64]:
        """Lay out what the rows' rules say.

        Returns:
            Where each row's begins, (N,); none if any symbol of all may come.
        """
        if all(rule is NO_RULE for rule in rules):
            return NO_BEGINS
        wanted = dict.fromkeys(rules)
        if not self._begin or not self._has_room(dict.fromkeys([*self._begin, *wanted])):
            self._clear(max(rule.symbols for rule in rules))
        self._add([rule for rule in wanted if rule not in self._begin])
        return np.array([self._begin[rule] for rule in rules], np.int64)

    def at(self, states: NDArray[np.int64]) -> Automata:
        """Describe a loop run whose rows are in these states of the tables, (N,)."""
        return Automata(bias=self._bias, next=self._next, states=states)

    def is_final(self, states: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell in which states of the tables, (N,), a pattern allows nothing more."""
        final: NDArray[np.bool_] = self._final[states]
        return final

    def _clear(self, symbols: int) -> None:
        free = Automata.free(0, symbols)
        self._bias, self._next = free.bias, free.next
        self._final = np.zeros(1, np.bool_)
        self._begin = {NO_RULE: 0}

    def _add(self, rules: list[Rule]) -> None:
        if not rules:
            return
        biases, nexts, finals = [self._bias], [self._next], [self._final]
        begin = len(self._bias)
        for rule in rules:
            bias, after = rule.tables()
            self._begin[rule] = begin
            biases.append(bias)
            nexts.append((after + begin).ravel())
            finals.append(rule.is_final)
            begin += rule.states
        self._bias, self._next = np.concatenate(biases), np.concatenate(nexts)
        self._final = np.concatenate(finals)
