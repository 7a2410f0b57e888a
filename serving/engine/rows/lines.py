"""A line of columns for each slot, one a step: what is known ahead, and what loop runs wrote."""

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.engine.rows.pacing import LONGEST_RUN
from serving.engine.rows.row import AHEAD
from serving.runtime.decoder import FREE
from serving.runtime.host import Written

WIDTH = 4 * AHEAD + 2 * LONGEST_RUN  # columns
LAST = WIDTH - AHEAD  # column from which a row may still know all ahead
NO_STATES = np.zeros(0, np.int64)
Number = TypeVar("Number", bound=np.generic)
Taken = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]
"""Token ids, their log-probabilities, and the states of the automaton after each."""


class Lines:
    """The lines of a worker's slots.

    Args:
        capacity: how many slots.
    """

    def __init__(self, capacity: int) -> None:
        self._forced = np.full((capacity, WIDTH), FREE, np.int64)
        self._is_forced = [False] * capacity
        self._uniform = np.zeros((capacity, WIDTH), np.float32)
        self._tokens = np.zeros((capacity, WIDTH), np.int64)
        self._log_probs = np.zeros((capacity, WIDTH), np.float32)
        self._states = np.zeros((capacity, 0), np.int64)  # of automata; has columns once one came

    def know(
        self, slot: int, column: int, forced: NDArray[np.int64], uniform: NDArray[np.float32]
    ) -> None:
        """Note the symbols, as far as they are known, and the random numbers from a column on."""
        if self._is_forced[slot]:
            self._forced[slot] = FREE
        self._is_forced[slot] = len(forced) > 0
        if len(forced):
            self._forced[slot, column : column + len(forced)] = forced
        self._uniform[slot, column : column + len(uniform)] = uniform

    def ahead(
        self, rows: slice | NDArray[np.int64], columns: slice, *, is_free: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return forced symbols and random numbers, both (T, N).

        Args:
            rows: slots of the rows.
            columns: one for each step.
            is_free: whether no symbol of these is forced.
        """
        uniform = np.ascontiguousarray(self._uniform[rows, columns].T)
        if is_free:
            return _free(uniform.shape[1])[: len(uniform)], uniform
        return np.ascontiguousarray(self._forced[rows, columns].T), uniform

    def write(
        self,
        rows: slice | NDArray[np.int64],
        columns: slice,
        written: Written,
        states: NDArray[np.int64] | None,
    ) -> None:
        """Note what a loop run wrote, and the states of the rows' own automata, (T, N)."""
        self._tokens[rows, columns] = written.tokens.T
        self._log_probs[rows, columns] = written.log_probs.T
        if states is not None:
            if not self._states.shape[1]:
                self._states = np.zeros(self._tokens.shape, np.int64)
            self._states[rows, columns] = states.T

    def cut(
        self, slots: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Iterator[Taken]:
        """Return what was written in some columns of each of some lines, one or more.

        Any thread may go through it, and later: it stays as it is now.
        """
        lines = self._tokens, self._log_probs, self._states  # those of now: see `shift`
        return _cut(*lines, slots, begins, ends)

    def shift(self, columns: int) -> None:
        """Forget the first columns, so that there are more at the end."""
        for lines in (self._forced, self._uniform):
            lines[:, :-columns] = lines[:, columns:].copy()
        self._forced[:, -columns:] = FREE
        # Somebody may still go through what was cut from the old ones.
        self._tokens = _shifted(self._tokens, columns)
        self._log_probs = _shifted(self._log_probs, columns)
        self._states = _shifted(self._states, columns)


def _shifted(lines: NDArray[Number], columns: int) -> NDArray[Number]:
    """Return new lines without the first columns of others."""
    shifted = np.zeros_like(lines)
    shifted[:, :-columns] = lines[:, columns:]
    return shifted


def _cut(
    all_tokens: NDArray[np.int64],
    all_log_probs: NDArray[np.float32],
    all_states: NDArray[np.int64],
    slots: NDArray[np.int64],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> Iterator[Taken]:
    """Yield some columns of each of some lines; nothing is done before it is asked for."""
    first = int(begins.min())
    columns = slice(first, int(ends.max()))
    tokens, log_probs = all_tokens[slots, columns], all_log_probs[slots, columns]
    states = all_states[slots, columns] if all_states.shape[1] else None
    ranges = zip((begins - first).tolist(), (ends - first).tolist(), strict=True)
    for row, (begin, end) in enumerate(ranges):
        yield (
            tokens[row, begin:end],
            log_probs[row, begin:end],
            NO_STATES if states is None else states[row, begin:end],
        )


@lru_cache(maxsize=8)
def _free(rows: int) -> NDArray[np.int64]:
    """Return that nothing is forced in LONGEST_RUN steps of so many rows, (LONGEST_RUN, N)."""
    free = np.full((LONGEST_RUN, rows), FREE, np.int64)
    free.flags.writeable = False
    return free
