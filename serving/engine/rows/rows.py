"""The rows of a worker's loop runs as arrays, so that a run costs Python only for rows with news.

All rows share a clock, which counts steps. Each slot has a line of columns, one a step: the symbols
that are forced and the random numbers, as far as they are known ahead, and what loop runs wrote. A
sequence takes that in when there is something to deliver, when its text ends, or before its line is
used up; until then a loop run does nothing for its row alone.
"""

from collections.abc import Iterable
from math import inf

import numpy as np
from numpy.typing import NDArray

from serving.engine.rows.lines import LAST, Lines, Taken
from serving.engine.rows.pacing import LONGEST_RUN
from serving.engine.rows.row import (
    AHEAD,
    AWAITED,
    NEVER,
    READING,
    ROW,
    RULED,
    SPECIAL,
    STOPPING,
    TIMES,
    News,
    next_news,
    prepared,
)
from serving.engine.rows.tables import Tables
from serving.engine.sequences.sequence import Sequence
from serving.engine.sequences.stops import StopRows
from serving.runtime.decoder import Automata, LoopRun
from serving.runtime.host import Written


class Rows:
    """What loop runs need to know of the sequences in slots.

    Args:
        capacity: how many slots.

    Attributes:
        held: slots with a sequence, rising, (N,): the rows of the next loop run.
    """

    def __init__(self, capacity: int) -> None:
        self.held: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rows: slice | NDArray[np.int64] = self.held  # the same; all slots are a slice
        self._clock = 0
        self._table = np.zeros(capacity, ROW)
        self._times = self._table.view("i8").reshape(capacity, -1)[:, TIMES]
        self._sequences: list[Sequence | None] = [None] * capacity
        self._lines = Lines(capacity)
        self._stops = StopRows(capacity)
        self._tables = Tables()
        self._begins: NDArray[np.int64] | None = None  # of each row's automaton in the tables
        self._waiting: list[int] = []  # slots that are not in the next loop run
        # What some row may need, of Kind; at times more, until rows are arranged again.
        self._kinds = 0
        self._common_kinds = 0  # of them, those of all rows when they were arranged

    @property
    def is_crowded(self) -> bool:
        """Whether some sequences wait, as there is no room for their automata."""
        return bool(self._waiting)

    def put(self, slots: list[int], sequences: list[Sequence]) -> None:
        """Give slots to sequences, or know more ahead of those that have taken in all."""
        coming = [each.prepared or prepared(each) for each in sequences]
        places = np.array(slots)
        self._table[places] = np.frombuffer(b"".join([each.row for each in coming]), ROW)
        self._times[places] += self._clock
        self._begins = None
        for slot, sequence, each in zip(slots, sequences, coming, strict=True):
            sequence.prepared = None
            self._sequences[slot] = sequence
            self._lines.know(slot, self._clock, each.forced, each.uniform)
            self._stops.put(slot, sequence.stops, sequence.draft.held_text)
            self._kinds |= each.kinds

    def drop(self, slot: int) -> None:
        """Take a slot from its sequence."""
        self._sequences[slot] = None

    def arrange(self, slots: list[int]) -> None:
        """Choose the rows of the next loop run from slots that have a sequence."""
        self._begins = None
        for slot in self._waiting:
            self.put([slot], self.at([slot]))  # the clock went on without it
        self._waiting = []
        self._hold(sorted(slots))
        if self._kinds & RULED:
            rules = [(slot, self.at([slot])[0].rule) for slot in self.held.tolist()]
            chosen = self._tables.choose(rules)
            self._waiting = [slot for slot in slots if slot not in chosen]
            self._hold(chosen)
        for slot in self._waiting:
            self.catch_up(slot)
            self._table["taken"][slot] = NEVER

    def _hold(self, slots: list[int]) -> None:
        """Let these slots, rising, be the rows of the next loop run."""
        if len(slots) < len(self._sequences) or len(self.held) < len(slots):
            self.held = np.array(slots, np.int64)
            self._rows = slice(None) if len(slots) == len(self._sequences) else self.held
        kinds = self._table["kinds"][self._rows]
        self._kinds = int(np.bitwise_or.reduce(kinds))
        self._common_kinds = int(np.bitwise_and.reduce(kinds))

    def go_on(self, slot: int, sequence: Sequence) -> None:
        """Note what a sequence waits for now that it has taken in what was written."""
        end, *_, known, _ = (self._times[slot] - self._clock).tolist()
        if sequence.is_watched or end <= 0 or (known < AHEAD // 2 and known < sequence.left):
            self.put([slot], [sequence])
        else:
            self._table["news"][slot] = self._clock + next_news(sequence, known)
            self._table["due"][slot] = sequence.draft.due

    @property
    def left(self) -> NDArray[np.int64]:
        """How many steps each row may make, (N,)."""
        left: NDArray[np.int64] = self._table["end"][self._rows] - self._clock
        return left

    @property
    def may_stop(self) -> NDArray[np.bool_]:
        """Which rows a stop string may end, (N,)."""
        may_stop: NDArray[np.bool_] = self._table["may_stop"][self._rows]
        return may_stop

    def known(self, left: NDArray[np.int64]) -> int:
        """Return how many steps rows only read that make up to so many, (N,)."""
        if not self._kinds & READING:
            return 0
        known = self._table["read"][self._rows] - self._clock
        return int(known.min(where=known < left, initial=NEVER))

    def read(self, made: NDArray[np.int64]) -> int:
        """Return how many symbols rows read that make so many steps, (N,)."""
        if not self._kinds & READING:
            return 0
        left = self._table["read"][self._rows] - self._clock
        is_reading = left > 0
        if not is_reading.any():
            self._kinds &= ~READING
            return 0
        return int(np.minimum(left, made).sum(where=is_reading))

    def until_first(self, left: NDArray[np.int64]) -> int:
        """Return after how many steps a row has the first symbol that somebody waits for.

        Args:
            left: steps that each row may make, (N,).
        """
        if not self._kinds & AWAITED:
            return LONGEST_RUN
        first = self._table["first"][self._rows] - self._clock
        # Where a prompt's state is kept, the row stops there, and its text begins the sooner.
        is_awaited = (first > 0) & (self._table["is_streamed"][self._rows] | (left < first))
        if not is_awaited.any():
            return LONGEST_RUN
        return int(np.minimum(first, left)[is_awaited].min())

    def may_go_back(self, steps: int) -> list[Sequence]:
        """Return whose text may stop within so many steps, and whose state is wanted there."""
        if not self._kinds & STOPPING:
            return []
        wanted = self._table["may_go_back"][self._rows]
        if not wanted.any():
            return []
        is_near = self._table["read"][self._rows] < self._clock + steps
        return self.at(self.held[wanted & is_near].tolist())

    def at(self, slots: list[int]) -> list[Sequence]:
        """Return the sequences in slots, which must have one."""
        found = [self._sequences[slot] for slot in slots]
        return [each for each in found if each is not None]

    def run(self, steps: int, made: NDArray[np.int64]) -> LoopRun:
        """Describe the next loop run.

        Args:
            steps: how long it is, LONGEST_RUN at most.
            made: how many of them each row makes, (N,).
        """
        columns = slice(self._clock, self._clock + steps)
        forced, uniform = self._lines.ahead(self._rows, columns, is_free=not self._kinds & READING)
        row = self._table[self.held]  # a copy: the table changes before the run has been taken in
        asking = np.flatnonzero(row["alternatives"])
        return LoopRun(
            tokens=row["token"],
            forced=forced,
            uniform=uniform,
            steps=made,
            temperature=row["temperature"],
            top_k=row["top_k"],
            top_p=row["top_p"],
            min_p=row["min_p"],
            asking=asking,
            alternatives=int(row["alternatives"].max()) if len(asking) else 0,
            automata=self._automata(row),
            is_scored=bool(row["is_score"].any()),
        )

    def _automata(self, row: NDArray[np.void]) -> Automata | None:
        if not self._kinds & RULED:
            self._begins = None
            return None
        if self._begins is None:
            self._begins = self._tables.lay([each.rule for each in self.at(self.held.tolist())])
        return self._tables.at(self._begins + row["automaton"])

    def advance(
        self, written: Written, made: NDArray[np.int64], all_made: int, now: float, symbols: int
    ) -> News:
        """Take in what a loop run wrote.

        Args:
            written: by it.
            made: how many steps of each row count, (N,).
            all_made: their sum.
            now: time.monotonic().
            symbols: of the vocabulary; another token is news.
        """
        tokens, began = written.tokens, self._clock
        clock = self._clock = began + len(tokens)
        states = None
        if written.automata is not None and self._begins is not None:
            states = written.automata - self._begins
        self._lines.write(self._rows, slice(began, clock), written, states)
        self._table["token"][self._rows] = tokens[-1]  # who made fewer steps is put anew, or ends
        row = self._table[self._rows]
        stops: dict[int, int] = {}
        if self._kinds & STOPPING:
            is_whole = all_made == tokens.size and not self._kinds & READING
            counted = None if is_whole else (row["read"] - began, made)
            stops = self._stops.follow(self.held, tokens, counted)
        news = row["news"] <= clock  # which is not after `end`
        news[list(stops)] = True
        if self._kinds & AWAITED:
            news |= (row["due"] <= now) & ((row["read"] <= clock) | row["is_score"])
        wrong: list[int] = []
        if tokens.view(np.uint64).max() >= symbols:  # negative ones are huge
            is_wrong = (tokens.view(np.uint64) >= symbols).any(axis=0)
            news, wrong = news | is_wrong, np.flatnonzero(is_wrong).tolist()
        if states is not None:
            news |= self._is_over(states[made - 1, np.arange(len(made))])
        begun = (row["first"] > began) & (row["first"] <= clock)
        found = News(begun=self.held[begun].tolist(), stoppable=self._stoppable(made, all_made))
        places = np.flatnonzero(news)
        ends, kinds_of = row["end"][places].tolist(), row["kinds"][places].tolist()
        slots = self.held[places].tolist()
        for place, slot, end, kinds in zip(places.tolist(), slots, ends, kinds_of, strict=True):
            if kinds & SPECIAL or not (place in stops or end <= clock) or place in wrong:
                found.rows.append(place)
                continue
            found.ended.append(slot)
            if place in stops:
                found.stops += 1
                found.excess += int(made[place]) - stops[place]
        if clock > LAST:
            self._turn_back()
        return found

    def _stoppable(self, made: NDArray[np.int64], all_made: int) -> int:
        """Return how many steps, of all that were made, rows made that a stop string may end."""
        if not self._kinds & STOPPING:
            return 0
        if self._common_kinds & STOPPING:
            return all_made
        return int(made.sum(where=self.may_stop))

    def _is_over(self, states: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Note the states of the rows' automata, (N,); return whose pattern has ended, (N,)."""
        assert self._begins is not None
        self._table["automaton"][self._rows] = states
        return self._tables.is_final(self._begins + states)

    def take(self, slots: list[int]) -> Iterable[Taken]:
        """Return what rows wrote since their sequences took it in; any thread may go through it."""
        if not slots:
            return ()
        places = np.array(slots)
        begins = self._table["taken"][places]
        ends = np.minimum(self._table["end"][places], self._clock)
        self._table["taken"][places] = self._clock
        return self._lines.cut(places, begins, ends)

    def catch_up(self, slot: int) -> None:
        """Let a sequence take in what its row wrote, of which nothing goes out."""
        sequence = self._sequences[slot]
        if sequence is not None and self._table["taken"][slot] < self._clock:
            ((ids, log_probs, states),) = self.take([slot])
            text = sequence.text_of(ids)
            chunk = sequence.take(ids, text, log_probs, len(ids), -inf, states=states)
            assert chunk is None, "whatever goes out was news"

    def _turn_back(self) -> None:
        """Turn the clock back, so that lines have columns for what is known ahead."""
        steps = self._clock - AHEAD - LONGEST_RUN  # no sequence leaves more untaken
        self._lines.shift(steps)
        self._times -= steps
        self._clock -= steps
