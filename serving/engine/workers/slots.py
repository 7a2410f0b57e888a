"""Who holds which slot of a worker's runner."""

import time
from collections import Counter
from collections.abc import Iterable

from serving.engine.counts import EngineCounts
from serving.engine.rows.rows import Rows
from serving.engine.sequences.sequence import Sequence
from serving.runtime.decoder import LoopRun, State
from serving.runtime.host import Runner, Written


class Slots:
    """Who holds which slot of a worker's runner.

    Args:
        runner: holds the state of each slot.
        counts: of the engine; by default of these slots alone.

    Attributes:
        rows: of the sequences that hold a slot.
        callers: how many slots each caller has; none is 0.
        has_let_go: whether a sequence that is to go on lost its slot; whoever reads it resets it.
    """

    def __init__(self, runner: Runner, counts: EngineCounts | None = None) -> None:
        self.runner = runner
        self._free = list(range(runner.capacity))[::-1]
        self._of: dict[Sequence, int] = {}
        self.capacity = runner.capacity
        self.rows = Rows(runner.capacity)
        self.callers: Counter[bytes] = Counter()
        self._coming: list[tuple[int, Sequence]] = []  # that have a slot and no row yet
        self.has_let_go = False
        self._is_changed = False  # whether a sequence has come or gone since the last loop run
        self.counts = counts or EngineCounts()

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._of

    @property
    def sequences(self) -> list[Sequence]:
        """Who holds a slot, in order of admission."""
        return list(self._of)

    @property
    def free(self) -> int:
        """How many more sequences can be admitted."""
        return len(self._free)

    def admit(self, sequences: Iterable[Sequence]) -> None:
        """Give each sequence a slot and put its state there."""
        for sequence in sequences:
            slot = self._of[sequence] = self._free.pop()
            self.runner.load(slot, sequence.state)
            sequence.state = None
            self._coming.append((slot, sequence))
            self.callers[sequence.request.caller] += 1
        self._is_changed = True

    def release(self, sequence: Sequence, *, keep_state: bool = False) -> None:
        """Take a sequence's slot; with `keep_state`, its state goes back to the sequence."""
        self.catch_up(sequence)
        if keep_state:
            sequence.state = self.read(sequence)
            self.has_let_go = True
        self.release_taken([sequence])

    def release_taken(self, sequences: list[Sequence]) -> None:
        """Take the slots of sequences that have taken in all that their rows wrote."""
        for sequence in sequences:
            slot = self._of.pop(sequence)
            self.rows.drop(slot)
            self.runner.clear(slot)
            self._free.append(slot)
            caller = sequence.request.caller
            self.callers[caller] -= 1
            if not self.callers[caller]:
                del self.callers[caller]
        self._is_changed = True

    def catch_up(self, sequence: Sequence) -> None:
        """Let a sequence take in all that its row wrote."""
        self._bring()
        self.rows.catch_up(self._of[sequence])

    def _bring(self) -> None:
        """Give rows to all that were admitted: to do it for many at once takes half the time."""
        if self._coming:
            slots, sequences = zip(*self._coming, strict=True)
            self._coming.clear()
            self.rows.put(list(slots), list(sequences))
            now, waits = time.monotonic(), []
            for sequence in sequences:
                if sequence.times.began is None:
                    sequence.times.began = now
                    waits.append(now - sequence.times.came)
            self.counts.queue_seconds.observe_all(waits)

    def arrange(self) -> Rows:
        """Return the rows of the next loop run, arranged."""
        self._bring()
        if self._is_changed or self.rows.is_crowded:
            self.rows.arrange(list(self._of.values()))
            self._is_changed = False
        return self.rows

    def read(self, sequence: Sequence) -> State:
        """Copy one sequence's state, each tensor (layers, hidden)."""
        return self.runner.read(self._of[sequence])

    def write(self, sequence: Sequence, state: State) -> None:
        """Put a state into a sequence's slot, each tensor (layers, hidden)."""
        self.runner.load(self._of[sequence], state)

    def run(self, run: LoopRun) -> Written:
        """Make a loop run of the rows as they were arranged."""
        return self.runner.run(self.rows.held.tolist(), run)

    def warm_up(self) -> None:
        """Do on the worker's thread what its first loop runs would have to wait for."""
        self.runner.warm_up()

    def abandon(self) -> list[Sequence]:
        """Forget all sequences and never use the runner again; it may be broken."""
        left = self.sequences
        for sequence in left:
            self.catch_up(sequence)
        self._of.clear()
        self._free.clear()
        self.callers.clear()
        return left
