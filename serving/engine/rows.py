"""The rows of a worker's loop runs as arrays, so that a run costs Python only for rows with news.

All rows share a clock, which counts steps. Each slot has a line of columns, one a step: the symbols
that are forced and the random numbers, as far as they are known ahead, and what loop runs wrote. A
sequence takes that in when there is something to deliver, when its text ends, or before its line is
used up; until then a loop run does nothing for its row alone.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from serving.engine.pacing import FIRST_SYMBOLS, LONGEST_RUN
from serving.engine.rules import NO_RULE
from serving.engine.sequence import Sequence
from serving.engine.stops import StopMasks
from serving.engine.tables import Tables
from serving.runtime.decoder import FREE, Automata, LoopRun
from serving.runtime.host import Written
from serving.runtime.sampling import BLOCK
from unroll.terms import Capsules

AHEAD = BLOCK  # columns that are known ahead at most; each block of random numbers is drawn once
WIDTH = 4 * AHEAD + LONGEST_RUN  # columns of a line
NEVER = 2**62
ONE = np.uint64(1)

ROW = np.dtype(
    [
        # Times by the clock; those of a row that waits for a slot count from there.
        ("end", "i8"),  # something is to be done for it: its text ends, or a block of its prompt
        ("read", "i8"),  # its prompt is read, or whatever else is forced
        ("first", "i8"),  # its text has its first symbol; past if it has one, or gets none
        ("news", "i8"),  # its sequence must take in what was written
        ("known", "i8"),  # the end of what is known ahead
        ("taken", "i8"),  # its sequence has taken in what was written up to here
        ("token", "i8"),  # the last symbol, not yet consumed
        ("due", "f8"),  # time.monotonic() from which its text may go out
        ("top_k", "i8"),
        ("alternatives", "i8"),
        ("stop_begins", "u8"),  # see StopMasks, as for the next two
        ("stop_ends", "u8"),
        ("stop_state", "u8"),
        ("automaton", "i8"),  # state of its automaton before its next step; 0 without one
        ("temperature", "f4"),
        ("top_p", "f4"),
        ("min_p", "f4"),
        ("has_rule", "?"),  # whether something says which symbols may come
        ("may_stop", "?"),  # whether a stop string or its pattern may end it
        ("may_go_back", "?"),  # whether its state is wanted where that happens
        ("is_streamed", "?"),
        ("is_score", "?"),
        ("is_plain", "?"),  # whether nothing but its last chunk is to be made when it ends
    ],
    align=True,
)
TIMES = slice(0, 6)  # of the first fields
Taken = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]
"""Token ids, their log-probabilities, and the states of the automaton after each."""


def prepare(sequence: Sequence) -> None:
    """Make what a slot will hold of a new sequence: its caller has more time than a worker."""
    sequence.draw_ahead()
    sequence.row = _row(sequence)


def _row(sequence: Sequence) -> NDArray[np.void]:
    request, sampling, stops = sequence.request, sequence.request.sampling, sequence.stops
    is_score = not request.max_new_symbols
    known = min(AHEAD, sequence.left)
    row = (
        sequence.steps,
        sequence.known_left,
        0 if is_score or sequence.generated else sequence.prompt_left + 1,
        _next_news(sequence, known),
        known,
        0,
        sequence.token,
        sequence.chunk_due,
        sampling.top_k,
        request.alternatives,
        0 if stops is None else stops.begins,
        0 if stops is None else stops.ends,
        0 if stops is None else stops.after(sequence.held_text),
        sequence.automaton_state if sequence.rule.automaton is not None else 0,
        sampling.temperature,
        sampling.top_p,
        sampling.min_p,
        sequence.rule is not NO_RULE,
        request.may_stop,
        sequence.may_go_back,
        sequence.is_streamed,
        is_score,
        request.snapshots is Capsules.NEVER
        and request.automaton is None
        and not sequence.is_watched,
    )
    return np.array(row, ROW)


def _next_news(sequence: Sequence, known: int) -> int:
    """Return after how many steps a sequence must take in what was written.

    Args:
        sequence: which.
        known: for how many steps its line is good.
    """
    if sequence.is_watched:
        return 1
    last = sequence.left if known == sequence.left else known - LONGEST_RUN
    return min(sequence.steps, sequence.room, last)


@dataclass(kw_only=True, slots=True)
class News:
    """What a loop run changed.

    Attributes:
        rows: whose sequences must take in what was written, in [0, N).
        ended: slots of rows whose text ended, and that is all.
        begun: slots of rows whose text has its first symbol by it.
        stoppable: steps of rows that a stop string may end.
        stops: how many of `ended` did so by a stop string.
        excess: steps that were made behind those.
    """

    rows: list[int]
    ended: list[int]
    begun: list[int]
    stoppable: int
    stops: int
    excess: int


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
        self._forced = np.full((capacity, WIDTH), FREE, np.int64)
        self._is_forced = [False] * capacity
        self._uniform = np.zeros((capacity, WIDTH), np.float32)
        self._tokens = np.zeros((capacity, WIDTH), np.int64)
        self._log_probs = np.zeros((capacity, WIDTH), np.float32)
        self._stops: list[StopMasks | None] = [None] * capacity
        self._stop_masks = np.zeros((capacity, 0), np.uint64)  # by token id
        self._tables = Tables()
        self._begins: NDArray[np.int64] | None = None  # of each row's automaton in the tables
        self._states = np.zeros((capacity, 0), np.int64)  # of automata; has columns once one came
        self._waiting: list[int] = []  # slots that are not in the next loop run

    @property
    def is_crowded(self) -> bool:
        """Whether some sequences wait, as there is no room for their automata."""
        return bool(self._waiting)

    def put(self, slot: int, sequence: Sequence) -> None:
        """Give a slot to a sequence, or know more ahead of one that has taken in all."""
        row, sequence.row = sequence.row, None
        self._table[slot] = _row(sequence) if row is None else row
        self._times[slot] += self._clock
        self._sequences[slot] = sequence
        self._begins = None
        known = min(AHEAD, sequence.left)
        forced = sequence.forced(known)
        if self._is_forced[slot]:
            self._forced[slot] = FREE
        self._is_forced[slot] = len(forced) > 0
        self._forced[slot, self._clock : self._clock + len(forced)] = forced
        self._uniform[slot, self._clock : self._clock + known] = sequence.uniform(known)
        if sequence.stops is not None and self._stops[slot] is not sequence.stops:
            self._put_stops(slot, sequence.stops)

    def drop(self, slot: int) -> None:
        """Take a slot from its sequence."""
        self._sequences[slot] = None

    def arrange(self, slots: list[int]) -> None:
        """Choose the rows of the next loop run from slots that have a sequence."""
        self._begins = None
        for slot in self._waiting:
            for sequence in self.at([slot]):
                self.put(slot, sequence)  # the clock went on without it
        chosen, self._waiting = sorted(slots), []
        if self._table["has_rule"][slots].any():
            chosen = self._tables.choose([(slot, self.at([slot])[0].rule) for slot in chosen])
            self._waiting = [slot for slot in slots if slot not in chosen]
        for slot in self._waiting:
            self.catch_up(slot)
            self._table["taken"][slot] = NEVER
        self.held = np.array(chosen, np.int64)
        self._rows = slice(None) if len(chosen) == len(self._sequences) else self.held

    def go_on(self, slot: int, sequence: Sequence) -> None:
        """Note what a sequence waits for now that it has taken in what was written."""
        end, *_, known, _ = (self._times[slot] - self._clock).tolist()
        if sequence.is_watched or end <= 0 or (known < AHEAD // 2 and known < sequence.left):
            self.put(slot, sequence)
        else:
            self._table["news"][slot] = self._clock + _next_news(sequence, known)
            self._table["due"][slot] = sequence.chunk_due

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

    @property
    def known(self) -> int:
        """How many steps all rows only read."""
        return int(self._table["read"][self._rows].min()) - self._clock

    def read(self, made: NDArray[np.int64]) -> int:
        """Return how many symbols rows read that make so many steps, (N,)."""
        left = self._table["read"][self._rows] - self._clock
        return int(np.minimum(left, made).sum(where=left > 0))

    def until_first(self, left: NDArray[np.int64]) -> int:
        """Return after how many steps the first row has symbols that somebody waits for.

        Args:
            left: steps that each row may make, (N,).
        """
        first = self._table["first"][self._rows] - self._clock
        # Where a prompt's state is kept, the row stops there, and its text begins the sooner.
        is_awaited = (first > 0) & (self._table["is_streamed"][self._rows] | (left < first))
        if not is_awaited.any():
            return LONGEST_RUN
        return int(np.minimum(first - 1 + FIRST_SYMBOLS, left)[is_awaited].min())

    def may_go_back(self, steps: int) -> list[Sequence]:
        """Return whose text may stop within so many steps, and whose state is wanted there."""
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
        row = self._table[self.held]  # a copy: the table changes before the run has been taken in
        asking = np.flatnonzero(row["alternatives"])
        return LoopRun(
            tokens=row["token"],
            forced=np.ascontiguousarray(self._forced[self._rows, columns].T),
            uniform=np.ascontiguousarray(self._uniform[self._rows, columns].T),
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
        if not row["has_rule"].any():
            self._begins = None
            return None
        if self._begins is None:
            self._begins = self._tables.lay([each.rule for each in self.at(self.held.tolist())])
        return self._tables.at(self._begins + row["automaton"])

    def advance(self, written: Written, made: NDArray[np.int64], now: float, symbols: int) -> News:
        """Take in what a loop run wrote.

        Args:
            written: by it.
            made: how many steps of each row count, (N,).
            now: time.monotonic().
            symbols: of the vocabulary; another token is news.
        """
        tokens, began = written.tokens, self._clock
        clock = self._clock = began + len(tokens)
        columns = slice(began, clock)
        self._tokens[self._rows, columns] = tokens.T
        self._log_probs[self._rows, columns] = written.log_probs.T
        self._table["token"][self._rows] = tokens[-1]  # who made fewer steps is put anew, or ends
        row = self._table[self._rows]
        stops_at = self._stops_at(tokens, made, row["read"] - began)
        stopped, is_plain = stops_at > 0, row["is_plain"]
        ended = (stopped | (row["end"] <= clock)) & is_plain
        news = stopped | (row["news"] <= clock)
        is_due = row["due"] <= now
        if is_due.any():
            news |= is_due & ((row["read"] <= clock) | row["is_score"])
        if tokens.view(np.uint64).max() >= symbols:  # negative ones are huge
            is_wrong = (tokens.view(np.uint64) >= symbols).any(axis=0)
            news, ended = news | is_wrong, ended & ~is_wrong
        if written.automata is not None and self._begins is not None:
            news |= self._follow(written.automata - self._begins, made, columns)
        begun = (row["first"] > began) & (row["first"] <= clock)
        if clock > WIDTH - AHEAD:
            self._turn_back()
        return News(
            rows=np.flatnonzero(news & ~ended).tolist(),
            ended=self.held[ended].tolist(),
            begun=self.held[begun].tolist(),
            stoppable=int(made.sum(where=row["may_stop"])),
            stops=int(np.count_nonzero(stopped & is_plain)),
            excess=int((made - stops_at).sum(where=stopped & is_plain)),
        )

    def _follow(
        self, states: NDArray[np.int64], made: NDArray[np.int64], columns: slice
    ) -> NDArray[np.bool_]:
        """Note the rows' states after each step, (T, N); return whose pattern has ended, (N,)."""
        assert self._begins is not None
        if not self._states.shape[1]:
            self._states = np.zeros((len(self._table), WIDTH), np.int64)
        self._states[self._rows, columns] = states.T
        last = states[made - 1, np.arange(len(made))]
        self._table["automaton"][self._rows] = last
        return self._tables.is_final(self._begins + last)

    def take(self, slots: list[int]) -> list[Taken]:
        """Return what rows wrote since their sequences took it in."""
        ends = np.minimum(self._table["end"][slots], self._clock)
        ranges = zip(slots, self._table["taken"][slots].tolist(), ends.tolist(), strict=True)
        self._table["taken"][slots] = self._clock
        return [
            (
                self._tokens[slot, begin:end].copy(),
                self._log_probs[slot, begin:end].copy(),
                self._states[slot, begin:end],
            )
            for slot, begin, end in ranges
        ]

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
        steps = self._clock - AHEAD  # no sequence leaves more untaken
        for lines, rest in (
            (self._forced, FREE),
            (self._uniform, 0),
            (self._tokens, 0),
            (self._log_probs, 0),
            (self._states, 0),
        ):
            if not lines.shape[1]:
                continue
            lines[:, :-steps] = lines[:, steps:].copy()
            lines[:, -steps:] = rest
        self._times -= steps
        self._clock -= steps

    def _put_stops(self, slot: int, stops: StopMasks) -> None:
        if not self._stop_masks.shape[1]:
            self._stop_masks = np.zeros((len(self._stops), len(stops.masks)), np.uint64)
        self._stop_masks[slot], self._stops[slot] = stops.masks, stops

    def _stops_at(
        self, tokens: NDArray[np.int64], made: NDArray[np.int64], reading: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Follow the stop strings; return after how many steps one is complete, (N,); 0 for none.

        Args:
            tokens: that came, (T, N).
            made: how many of them count, (N,).
            reading: how many of them were forced, (N,).
        """
        ends = self._table["stop_ends"][self._rows]
        if not ends.any():
            return np.zeros(len(ends), np.int64)
        begins = self._table["stop_begins"][self._rows]
        masks = self._stop_masks[self.held, tokens]  # (T, N)
        time = np.arange(len(tokens))[:, None]
        if (reading > 0).any():
            masks[time < reading] = 0
        masks[time >= made] = 0
        if not (begins == ends).all():  # not of one symbol each
            state = self._table["stop_state"][self._rows]
            for mask in masks:
                state = mask & (state << ONE | begins)
                mask[:] = state
            self._table["stop_state"][self._rows] = state
        found = (masks & ends) != 0
        return np.where(found.any(axis=0), found.argmax(axis=0) + 1, 0)
