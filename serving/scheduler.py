"""Who is in the batch: the queue, the slots, and how long a call may be."""

from collections import deque

import numpy as np

from serving.decoder import State
from serving.errors import OverloadedError
from serving.sequence import Sequence

LONGEST_CALL = 64  # steps
FIRST_SYMBOLS = 4  # a call ends this many symbols after a row's first one


class Slots:
    """The recurrent state of the rows in the batch, one slot each.

    Freed slots are filled with NaN, so that no sequence can go on with another's state unnoticed.

    Args:
        zero: a zero state of the batch's full size.
    """

    def __init__(self, zero: State) -> None:
        self._state = zero
        self._free = list(range(next(iter(zero.values())).shape[1]))[::-1]
        self._of: dict[Sequence, int] = {}
        for tensor in zero.values():
            tensor.fill(np.nan)

    @property
    def sequences(self) -> list[Sequence]:
        """Who holds a slot, in order of admission."""
        return list(self._of)

    @property
    def has_free(self) -> bool:
        """Whether another sequence can be admitted."""
        return bool(self._free)

    def admit(self, sequence: Sequence) -> None:
        """Give a sequence a slot and put its state there."""
        slot = self._of[sequence] = self._free.pop()
        for name, tensor in self._state.items():
            tensor[:, slot] = 0.0 if sequence.state is None else sequence.state[name]
        sequence.state = None

    def release(self, sequence: Sequence, *, keep_state: bool = False) -> None:
        """Take a sequence's slot; with `keep_state`, its state goes back to the sequence."""
        if keep_state:
            sequence.state = self.read(sequence)
        slot = self._of.pop(sequence)
        for tensor in self._state.values():
            tensor[:, slot] = np.nan
        self._free.append(slot)

    def read(self, sequence: Sequence) -> State:
        """Copy one sequence's state, each tensor (layers, hidden)."""
        slot = self._of[sequence]
        return {name: tensor[:, slot].copy() for name, tensor in self._state.items()}

    def write(self, sequence: Sequence, state: State) -> None:
        """Put a state into a sequence's slot, each tensor (layers, hidden)."""
        slot = self._of[sequence]
        for name, tensor in self._state.items():
            tensor[:, slot] = state[name]

    def gather(self, rows: list[Sequence]) -> State:
        """Copy the rows' states into one batch, each (layers, len(rows), hidden)."""
        index = [self._of[sequence] for sequence in rows]
        return {name: tensor[:, index] for name, tensor in self._state.items()}

    def scatter(self, rows: list[Sequence], state: State) -> None:
        """Write a batch's states back to the rows' slots."""
        index = [self._of[sequence] for sequence in rows]
        for name, tensor in self._state.items():
            tensor[:, index] = state[name]


class CallLength:
    """Chooses how many steps a call makes, from how long steps take.

    A new request waits for at most one call, so a call is bounded in time; it is shorter
    while a row is about to have its first symbols.

    Args:
        seconds: how long a call may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._step_seconds: dict[int, float] = {}  # by the power of two above the batch size

    def steps(self, rows: list[Sequence]) -> int:
        """Return the number of steps of the next call, 1 or more."""
        longest = min(LONGEST_CALL, max(row.steps for row in rows))
        step_seconds = self._step_seconds.get(_size_class(len(rows)))
        in_time = FIRST_SYMBOLS if step_seconds is None else int(self._seconds / step_seconds)
        soonest = min(
            (row.prompt_left + FIRST_SYMBOLS for row in rows if not row.generated),
            default=LONGEST_CALL,
        )
        return max(1, min(longest, in_time, soonest))

    def learn(self, rows: int, steps: int, seconds: float) -> None:
        """Take in how long a call took."""
        size = _size_class(rows)
        new = seconds / steps
        old = self._step_seconds.get(size, new)
        self._step_seconds[size] = old + 0.2 * (new - old)


def _size_class(rows: int) -> int:
    return (rows - 1).bit_length()


class Scheduler:
    """Moves sequences between the queue, the slots and the stalled.

    Args:
        slots: where the batch's states are.
        queue_limit: how many sequences may wait for a slot.
    """

    def __init__(self, slots: Slots, queue_limit: int) -> None:
        self.slots = slots
        self._queue: deque[Sequence] = deque()
        self._stalled: list[Sequence] = []
        self._queue_limit = queue_limit

    def __len__(self) -> int:
        return len(self._queue) + len(self._stalled) + len(self.slots.sequences)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            OverloadedError: the queue is full.
        """
        if len(self._queue) >= self._queue_limit:
            raise OverloadedError(
                f"{len(self._queue)} sequences are waiting, the limit is {self._queue_limit}; "
                "try again later"
            )
        self._queue.append(sequence)

    def schedule(self) -> list[Sequence]:
        """Return the rows of the next call; may be none."""
        for sequence in self.slots.sequences:
            if sequence.is_stalled:
                self.slots.release(sequence, keep_state=True)
                self._stalled.append(sequence)
        ready = [sequence for sequence in self._stalled if not sequence.is_stalled]
        self._stalled = [sequence for sequence in self._stalled if sequence.is_stalled]
        self._queue.extendleft(reversed(ready))
        while self._queue and self.slots.has_free:
            self.slots.admit(self._queue.popleft())
        return self.slots.sequences

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is."""
        if sequence in self._queue:
            self._queue.remove(sequence)
        elif sequence in self._stalled:
            self._stalled.remove(sequence)
        else:
            self.slots.release(sequence)

    def everyone(self) -> list[Sequence]:
        """Return all sequences."""
        return [*self.slots.sequences, *self._stalled, *self._queue]
