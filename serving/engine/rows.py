"""The rows of a worker's loop runs as arrays, so that a run costs Python only for rows with news.

Each slot has a window of columns, one a step: the symbols that are forced, the random numbers, and
what loop runs wrote. A sequence takes that in when there is something to deliver, when its text
ends, or when the window is full; until then nothing is done for its row alone.
"""

from math import inf

import numpy as np
from numpy.typing import NDArray

from serving.engine.pacing import FIRST_SYMBOLS, LONGEST_RUN
from serving.engine.sequence import Sequence
from serving.engine.stops import StopMasks
from serving.engine.tables import Tables
from serving.runtime.decoder import FREE, Automata, LoopRun
from serving.runtime.host import Written
from serving.runtime.sampling import BLOCK

WINDOW = BLOCK  # columns; each block of random numbers is drawn once
FULL = WINDOW - LONGEST_RUN  # a loop run that begins after this column might not fit
ONE = np.uint64(1)

ROW = np.dtype(
    [
        ("steps", "i8"),  # that it may make until something is to be done for it
        ("reading", "i8"),  # steps whose symbol is known
        ("first", "i8"),  # steps to its text's first symbol; 0 if it has one, or gets none
        ("token", "i8"),  # the last symbol, not yet consumed
        ("at", "i8"),  # column of its next step
        ("taken", "i8"),  # column up to which its sequence has taken in what was written
        ("room", "i8"),  # symbols that make a chunk which must not wait
        ("due", "f8"),  # time.monotonic() from which its text may go out
        ("top_k", "i8"),
        ("temperature", "f4"),
        ("top_p", "f4"),
        ("min_p", "f4"),
        ("alternatives", "i8"),
        ("stop_begins", "u8"),  # see StopMasks, as for the next two
        ("stop_ends", "u8"),
        ("stop_state", "u8"),
        ("automaton", "i8"),  # state of its automaton before its next step; 0 without one
        ("may_stop", "?"),  # whether a stop string or its pattern may end it
        ("is_streamed", "?"),
        ("is_score", "?"),
        ("is_watched", "?"),  # whether its sequence looks at whatever comes
    ]
)


def prepare(sequence: Sequence) -> None:
    """Make what a slot will hold of a new sequence: its caller has more time than a worker."""
    sequence.draw_ahead()
    sequence.row = _row(sequence)


def _row(sequence: Sequence) -> NDArray[np.void]:
    request, sampling, stops = sequence.request, sequence.request.sampling, sequence.stops
    is_score = not request.max_new_symbols
    row = (
        sequence.steps,
        sequence.known_left,
        0 if is_score or sequence.generated else sequence.prompt_left + 1,
        sequence.token,
        0,
        0,
        sequence.room,
        sequence.chunk_due,
        sampling.top_k,
        sampling.temperature,
        sampling.top_p,
        sampling.min_p,
        request.alternatives,
        0 if stops is None else stops.begins,
        0 if stops is None else stops.ends,
        0 if stops is None else stops.after(sequence.held_text),
        sequence.automaton_state if sequence.rule.automaton is not None else 0,
        request.may_stop,
        sequence.is_streamed,
        is_score,
        sequence.is_watched,
    )
    return np.array(row, ROW)


Taken = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]
"""Token ids, their log-probabilities, and the states of the automaton after each."""


class Rows:
    """What loop runs need to know of the sequences in slots.

    Args:
        capacity: how many slots.

    Attributes:
        held: slots with a sequence, rising, (N,): the rows of the next loop run.
        is_crowded: whether some sequences wait, as there is no room for their automata.
        table: a ROW of each slot, (capacity,); its columns are the next three.
        steps: by slot.
        reading: likewise.
        may_stop: likewise.
    """

    def __init__(self, capacity: int) -> None:
        self.held: NDArray[np.int64] = np.zeros(0, np.int64)
        self.table = np.zeros(capacity, ROW)
        self.steps, self.reading = self.table["steps"], self.table["reading"]
        self.may_stop = self.table["may_stop"]
        self._first, self._token = self.table["first"], self.table["token"]
        self._at, self._taken = self.table["at"], self.table["taken"]
        self._sequences: list[Sequence | None] = [None] * capacity
        self._forced = np.full((capacity, WINDOW), FREE, np.int64)
        self._is_forced = [False] * capacity
        self._uniform = np.zeros((capacity, WINDOW), np.float32)
        self._tokens = np.zeros((capacity, WINDOW), np.int64)
        self._log_probs = np.zeros((capacity, WINDOW), np.float32)
        self._stops: list[StopMasks | None] = [None] * capacity
        self._stop_masks = np.zeros((capacity, 0), np.uint64)  # by token id
        self._tables = Tables()
        self._begins: NDArray[np.int64] | None = None  # of each row's automaton in the tables
        self._states = np.zeros((capacity, 0), np.int64)  # of automata; has columns once one came
        self.is_crowded = False

    def put(self, slot: int, sequence: Sequence) -> None:
        """Give a slot to a sequence, or begin a window whose sequence took in the one before."""
        row, sequence.row = sequence.row, None
        self.table[slot] = _row(sequence) if row is None else row
        columns = min(WINDOW, sequence.left)
        known = sequence.forced(columns)
        if self._is_forced[slot]:
            self._forced[slot] = FREE
        self._is_forced[slot] = len(known) > 0
        self._forced[slot, : len(known)] = known
        self._uniform[slot, :columns] = sequence.uniform(columns)
        if sequence.stops is not None and self._stops[slot] is not sequence.stops:
            self._put_stops(slot, sequence.stops)
        self._sequences[slot] = sequence
        self._begins = None

    def drop(self, slot: int) -> None:
        """Take a slot from its sequence."""
        self._sequences[slot] = None

    def arrange(self, slots: list[int]) -> None:
        """Note which slots have a sequence."""
        self._begins = None
        in_turn = self._tables.choose([(slot, self.at([slot])[0].rule) for slot in sorted(slots)])
        self.is_crowded = len(in_turn) < len(slots)
        self.held = np.array(in_turn, np.int64)

    def go_on(self, slot: int, sequence: Sequence) -> None:
        """Note what a sequence waits for now that it has taken in what was written."""
        if self._at[slot] > FULL:
            self.put(slot, sequence)
        row = self.table[slot]
        row["steps"], row["due"] = sequence.steps, sequence.chunk_due
        row["room"], row["is_watched"] = sequence.room, sequence.is_watched

    def run(self, steps: int, made: NDArray[np.int64]) -> LoopRun:
        """Describe the next loop run.

        Args:
            steps: how long it is, LONGEST_RUN at most.
            made: how many of them each row makes, (N,).
        """
        rows = self.held
        columns = self._at[rows] + np.arange(steps)[:, None]
        row = self.table[rows]
        return LoopRun(
            tokens=row["token"],
            forced=self._forced[rows, columns],
            uniform=self._uniform[rows, columns],
            steps=made,
            temperature=row["temperature"],
            top_k=row["top_k"],
            top_p=row["top_p"],
            min_p=row["min_p"],
            asking=np.flatnonzero(row["alternatives"]),
            alternatives=int(row["alternatives"].max()),
            automata=self._automata(row["automaton"]),
        )

    def _automata(self, states: NDArray[np.int64]) -> Automata | None:
        if self._begins is None:
            rules = [row.rule for row in self.at(self.held.tolist())]
            self._begins = self._tables.lay(rules)
        return self._tables.at(self._begins + states) if len(self._begins) else None

    def until_first(self) -> int:
        """Return after how many steps the first row has symbols that somebody waits for."""
        row = self.table[self.held]
        row = row[row["first"] > 0]
        if not len(row):
            return LONGEST_RUN
        steps, first = row["steps"], row["first"]
        soon = np.minimum(first - 1 + FIRST_SYMBOLS, steps)
        waited = np.where(row["is_streamed"], soon, LONGEST_RUN)
        # Where a prompt's state is kept, the row stops there, and its text begins the sooner.
        return int(np.where(steps < first, steps, waited).min())

    def may_go_back(self, steps: int) -> list[Sequence]:
        """Return whose text may stop within so many steps, and whose state is wanted there."""
        rows = self.held[self.may_stop[self.held] & (self.reading[self.held] < steps)]
        return [row for row in self.at(rows.tolist()) if row.may_go_back]

    def at(self, slots: list[int]) -> list[Sequence]:
        """Return the sequences in slots, which must have one."""
        found = [self._sequences[slot] for slot in slots]
        return [each for each in found if each is not None]

    def advance(
        self, written: Written, made: NDArray[np.int64], now: float, symbols: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take in what a loop run wrote.

        Args:
            written: by it.
            made: how many steps of each row count, (N,).
            now: time.monotonic().
            symbols: of the vocabulary; it is news where another token was written.

        Returns:
            Rows of whom there is news, in [0, N), and slots of those whose text has just begun.
        """
        rows, T = self.held, len(written.tokens)
        row = self.table[rows]
        columns = row["at"] + np.arange(T)[:, None]
        self._tokens[rows, columns] = written.tokens
        self._log_probs[rows, columns] = written.log_probs
        news = row["is_watched"] | self._is_complete(written.tokens, made, row)
        news |= (written.tokens.view(np.uint64) >= symbols).any(axis=0)  # negative ones are huge
        begun = rows[(row["first"] > 0) & (row["first"] <= made)]
        row["token"] = written.tokens[made - 1, np.arange(len(rows))]
        if written.automata is not None and self._begins is not None and len(self._begins):
            self._follow(rows, columns, written.automata - self._begins, made, row)
            news |= self._tables.is_final(self._begins + row["automaton"])
        row["first"] = np.maximum(row["first"] - made, 0)
        row["reading"] = np.maximum(row["reading"] - made, 0)
        row["steps"] -= made
        row["at"] += made
        self.table[rows] = row
        news |= (row["steps"] == 0) | (row["at"] > FULL) | (row["at"] - row["taken"] >= row["room"])
        news |= (now >= row["due"]) & ((row["reading"] == 0) | row["is_score"])
        return np.flatnonzero(news), begun

    def _follow(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        states: NDArray[np.int64],
        made: NDArray[np.int64],
        row: NDArray[np.void],
    ) -> None:
        """Note the states of the rows' automata after each step, (T, N)."""
        if not self._states.shape[1]:
            self._states = np.zeros((len(self.table), WINDOW), np.int64)
        self._states[rows, columns] = states
        row["automaton"] = states[made - 1, np.arange(len(rows))]

    def take(self, slots: list[int]) -> list[Taken]:
        """Return what rows wrote since their sequences took it in."""
        ranges = zip(slots, self._taken[slots].tolist(), self._at[slots].tolist(), strict=True)
        self._taken[slots] = self._at[slots]
        return [
            (
                self._tokens[slot, begin:end],
                self._log_probs[slot, begin:end].copy(),
                self._states[slot, begin:end],
            )
            for slot, begin, end in ranges
        ]

    def catch_up(self, slot: int) -> None:
        """Let a sequence take in what its row wrote, of which nothing goes out."""
        sequence = self._sequences[slot]
        if sequence is not None and self._at[slot] > self._taken[slot]:
            ((ids, log_probs, states),) = self.take([slot])
            text = sequence.text_of(ids)
            chunk = sequence.take(ids, text, log_probs, len(ids), -inf, states=states)
            assert chunk is None, "whatever goes out was news"

    def _put_stops(self, slot: int, stops: StopMasks) -> None:
        if not self._stop_masks.shape[1]:
            self._stop_masks = np.zeros((len(self._stops), len(stops.masks)), np.uint64)
        self._stop_masks[slot], self._stops[slot] = stops.masks, stops

    def _is_complete(
        self, tokens: NDArray[np.int64], made: NDArray[np.int64], row: NDArray[np.void]
    ) -> NDArray[np.bool_]:
        """Follow the stop strings; return in which rows one is complete, (N,)."""
        if not self._stop_masks.shape[1] or not row["may_stop"].any():
            return np.zeros(len(row), np.bool_)
        begins, ends = row["stop_begins"], row["stop_ends"]
        masks = self._stop_masks[self.held, tokens]  # (T, N)
        time = np.arange(len(tokens))[:, None]
        masks[(time < row["reading"]) | (time >= made)] = 0
        ended = np.zeros(len(row), np.uint64)
        if (begins == ends).all():  # of one symbol each
            ended |= np.bitwise_or.reduce(masks) & ends
        else:
            state = row["stop_state"].copy()
            for mask in masks:
                state = (state << ONE | begins) & mask
                ended |= state & ends
            row["stop_state"] = state
        is_complete: NDArray[np.bool_] = ended != 0
        return is_complete
