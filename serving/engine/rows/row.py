"""What loop runs know of one sequence, as a row of numbers, and what they change of all."""

import struct
from dataclasses import dataclass, field
from enum import IntFlag

import numpy as np

from serving.engine.rows.pacing import LONGEST_RUN
from serving.engine.sequences.prepared import Prepared
from serving.engine.sequences.rules import NO_RULE
from serving.engine.sequences.sequence import Sequence
from serving.runtime.sampling import BLOCK
from unroll.terms import Capsules

AHEAD = BLOCK  # steps that are known ahead at most; each block of random numbers is drawn once
NEVER = 2**62

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
        ("automaton", "i8"),  # state of its automaton before its next step; 0 without one
        ("temperature", "f4"),
        ("top_p", "f4"),
        ("min_p", "f4"),
        ("may_stop", "?"),  # whether a stop string or its pattern may end it
        ("may_go_back", "?"),  # whether its state is wanted where that happens
        ("is_streamed", "?"),
        ("is_score", "?"),
        ("kinds", "u1"),
    ],
    align=True,
)
TIMES = slice(0, 6)  # of the first fields


class Kind(IntFlag):
    """What a row may need; where none does, a run need not look at all of its rows."""

    AWAITED = 1
    """Somebody may wait for its first symbols."""
    READING = 2
    """Symbols of it are known, or were when it came."""
    STOPPING = 4
    """A stop string or its pattern may end it."""
    RULED = 8
    """Something says which symbols may come."""
    SPECIAL = 16
    """More than its last chunk is to be made when it ends."""


AWAITED, READING, STOPPING, RULED, SPECIAL = map(int, Kind)
_PACKED = struct.Struct("=7qd3q3f4?B7x")  # a ROW, packed in a tenth of NumPy's time
assert _PACKED.size == ROW.itemsize


def prepared(sequence: Sequence) -> Prepared:
    """Make what a slot will hold of a sequence as it stands."""
    request, sampling = sequence.request, sequence.request.sampling
    is_score = not request.max_new_symbols
    known, steps, is_watched = min(AHEAD, sequence.left), sequence.steps, sequence.is_watched
    first = 0 if is_score or sequence.generated else sequence.prompt_left + 1
    forced = sequence.forced(known)
    is_plain = request.snapshots is Capsules.NEVER and request.automaton is None and not is_watched
    kinds = (
        (AWAITED if sequence.is_streamed or steps < first else 0)
        | (READING if len(forced) else 0)
        | (STOPPING if request.may_stop else 0)
        | (RULED if sequence.rule is not NO_RULE else 0)
        | (0 if is_plain else SPECIAL)
    )
    row = _PACKED.pack(
        steps,
        sequence.known_left,
        first,
        next_news(sequence, known),
        known,
        0,
        sequence.token,
        sequence.draft.due,
        sampling.top_k,
        request.alternatives,
        sequence.automaton_state if sequence.rule.automaton is not None else 0,
        sampling.temperature,
        sampling.top_p,
        sampling.min_p,
        request.may_stop,
        sequence.may_go_back,
        sequence.is_streamed,
        is_score,
        kinds,
    )
    return Prepared(row=row, kinds=kinds, forced=forced, uniform=sequence.uniform(known))


def next_news(sequence: Sequence, known: int) -> int:
    """Return after how many steps a sequence must take in what was written.

    Args:
        sequence: which.
        known: for how many steps its line is good.
    """
    if sequence.is_watched:
        return 1
    last = sequence.left if known == sequence.left else known - LONGEST_RUN
    return min(sequence.steps, sequence.draft.room, last)


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

    rows: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    stoppable: int = 0
    stops: int = 0
    excess: int = 0
