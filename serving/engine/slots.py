"""Who holds which slot of a worker's runner."""

import time

from serving.engine.counts import EngineCounts
from serving.engine.sequence import Sequence
from serving.runtime.decoder import LoopRun, State
from serving.runtime.host import Runner, Written


class Slots:
    """Who holds which slot of a worker's runner.

    Args:
        runner: holds the state of each slot.
        counts: of the engine; by default of these slots alone.
    """

    def __init__(self, runner: Runner, counts: EngineCounts | None = None) -> None:
        self.runner = runner
        self._free = list(range(runner.capacity))[::-1]
        self._of: dict[Sequence, int] = {}
        self.capacity = runner.capacity
        self.changes = 0  # grows whenever a sequence comes or goes
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
    def has_free(self) -> bool:
        """Whether another sequence can be admitted."""
        return bool(self._free)

    def admit(self, sequence: Sequence) -> None:
        """Give a sequence a slot and put its state there."""
        slot = self._of[sequence] = self._free.pop()
        self.runner.load(slot, sequence.state)
        sequence.state = None
        self.changes += 1
        if sequence.times.began is None:
            sequence.times.began = time.monotonic()
            self.counts.queue_seconds.observe(sequence.times.began - sequence.times.came)

    def release(self, sequence: Sequence, *, keep_state: bool = False) -> None:
        """Take a sequence's slot; with `keep_state`, its state goes back to the sequence."""
        if keep_state:
            sequence.state = self.read(sequence)
        slot = self._of.pop(sequence)
        self.runner.clear(slot)
        self._free.append(slot)
        self.changes += 1

    def read(self, sequence: Sequence) -> State:
        """Copy one sequence's state, each tensor (layers, hidden)."""
        return self.runner.read(self._of[sequence])

    def write(self, sequence: Sequence, state: State) -> None:
        """Put a state into a sequence's slot, each tensor (layers, hidden)."""
        self.runner.load(self._of[sequence], state)

    def run(self, run: LoopRun) -> Written:
        """Make a loop run of all sequences, in order."""
        return self.runner.run(list(self._of.values()), run)

    def warm_up(self) -> None:
        """Do on the worker's thread what its first loop runs would have to wait for."""
        self.runner.warm_up()

    def abandon(self) -> list[Sequence]:
        """Forget all sequences and never use the runner again; it may be broken."""
        left = self.sequences
        self._of.clear()
        self._free.clear()
        return left
