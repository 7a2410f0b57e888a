"""Where each sequence is: in the queue, in a worker's slot, stalled, or about to end."""

from collections.abc import Iterator
from math import inf

from serving.engine.sequences.sequence import Sequence
from serving.engine.workers.outbox import Batch
from serving.engine.workers.queue import FairQueue
from serving.engine.workers.slots import Slots
from unroll.errors import CancelledError, DeadlineError, EngineError, OverloadedError

LONGEST_WAIT = 3600.0  # seconds; threading.TIMEOUT_MAX, far above it, would raise OverflowError


class Scheduler:
    """Moves sequences between the queue, the workers and the stalled.

    A worker keeps at most its fair share of all that can run. What it has beyond that goes to the
    front of the queue, and only where another worker has at least two fewer: less would go back
    and forth. The one that has been with it longest goes, so that none moves again and again.

    Callers share queue and slots fairly. Where one has at least two slots more than another that
    waits, it gives up one; where the queue is full, a caller with fewer sequences in it takes the
    place of the last one of whoever has most.

    The caller sees to it that one thread at a time is here, and that `schedule` and `settle` are
    called by the thread of the worker that they are about.

    Args:
        workers: the slots of each worker.
        queue_limit: how many sequences may wait for a slot.
    """

    def __init__(self, workers: list[Slots], queue_limit: int) -> None:
        self.workers = workers
        self._queue = FairQueue()
        self._stalled: set[Sequence] = set()
        self._doomed: dict[Sequence, EngineError] = {}
        self._everyone: dict[Sequence, None] = {}
        self._queue_limit = queue_limit
        self._soonest = inf  # no deadline of anyone who is still here is before this

    def __len__(self) -> int:
        return len(self._everyone)

    @property
    def waiting(self) -> int:
        """How many could run and have no slot."""
        return len(self._queue)

    @property
    def stalled(self) -> int:
        """How many wait for their readers."""
        return len(self._stalled)

    def everyone(self) -> list[Sequence]:
        """Return all sequences, in the order in which they came."""
        return list(self._everyone)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            OverloadedError: the queue is full, and this caller has its share of it.
        """
        if len(self._queue) >= self._queue_limit:
            self._make_room(sequence.request.caller)
        self._queue.append(sequence)
        self._everyone[sequence] = None
        if sequence.request.deadline is not None:
            self._soonest = min(self._soonest, sequence.request.deadline)

    def cancel(self, sequence: Sequence) -> bool:
        """Let a sequence end with CancelledError; return False if it has ended."""
        if sequence not in self._everyone:
            return False
        self._doomed.setdefault(sequence, CancelledError("the request was cancelled"))
        return True

    def mark_read(self, sequence: Sequence, symbols: int) -> bool:
        """Count symbols that the reader took; return whether the sequence can go on by that."""
        sequence.unread -= symbols
        if sequence not in self._stalled or sequence.is_stalled:
            return False
        self._stalled.remove(sequence)
        self._queue.append_first(sequence)
        return True

    def patience(self, now: float) -> float | None:
        """Return how many seconds a worker without a row may wait for a change; None for ever."""
        self._soonest = min(self._deadlines(), default=inf)  # the soonest may have ended
        return None if self._soonest == inf else min(max(self._soonest - now, 0.0), LONGEST_WAIT)

    def end_doomed(self, slots: Slots, now: float) -> list[tuple[Sequence, EngineError]]:
        """End the cancelled and the late that this worker, or none, holds; return them."""
        if now >= self._soonest:
            self._doom_late(now)
        ended = [
            (sequence, error)
            for sequence, error in self._doomed.items()
            if sequence in slots or not self._is_held(sequence)
        ]
        for sequence, _ in ended:
            self._end(slots, sequence)
        return ended

    def schedule(self, slots: Slots) -> list[Sequence]:
        """Return the rows of a worker's next loop run; may be none."""
        share = self._share(slots)
        if len(slots) > share:
            for sequence in slots.sequences[: len(slots) - share]:
                self._put_back(slots, sequence)
        if len(self._queue):
            self._admit(slots, share)
        return slots.sequences

    def settle(self, slots: Slots, batch: Batch) -> None:
        """Take in what a worker's loop run gave: count what is unread, end what is complete."""
        for sequence in batch.ended:
            del self._everyone[sequence]
            self._doomed.pop(sequence, None)
        slots.release_taken(batch.ended)
        for sequence, chunk in batch.chunks:
            sequence.unread += len(chunk.log_probs)
            if chunk.is_last:
                self._end(slots, sequence)
            elif sequence.is_stalled:
                slots.release(sequence, keep_state=True)
                self._stalled.add(sequence)

    def held_or_waiting(self, slots: Slots) -> list[Sequence]:
        """Return the sequences that this worker, or none, holds."""
        return [s for s in self._everyone if s in slots or not self._is_held(s)]

    def end_all(self, slots: Slots) -> list[Sequence]:
        """End all that this worker, or none, holds, and use its slots no more; return them."""
        slots.abandon()
        ended = [sequence for sequence in self._everyone if not self._is_held(sequence)]
        for sequence in ended:
            self._end(slots, sequence)
        return ended

    def _admit(self, slots: Slots, share: int) -> None:
        while (room := min(share - len(slots), slots.free)) > 0 and len(self._queue):
            slots.admit(self._queue.pop_some(room, slots.callers))
        while len(self._queue) and self._take_from_greediest(slots):
            slots.admit([self._queue.pop(slots.callers)])

    def _take_from_greediest(self, slots: Slots) -> bool:
        """Free a slot for whose turn it is, if another caller has at least two more."""
        waits = self._queue.next(slots.callers)
        greediest, most = slots.callers.most_common(1)[0] if slots.callers else (waits, 0)
        if most - slots.callers[waits] < 2:
            return False
        self._put_back(
            slots, next(each for each in slots.sequences if each.request.caller == greediest)
        )
        return True

    def _put_back(self, slots: Slots, sequence: Sequence) -> None:
        slots.release(sequence, keep_state=True)
        self._queue.append_first(sequence)

    def _make_room(self, caller: bytes) -> None:
        error = OverloadedError(
            f"{len(self._queue)} sequences are waiting, the limit is {self._queue_limit}; try "
            "again later"
        )
        last = self._queue.youngest_of_greediest(caller) if len(self._queue) else None
        if last is None:
            raise error
        self._queue.remove(last)
        self._doomed[last] = error

    def _share(self, slots: Slots) -> int:
        """Return how many a worker may hold: an even share, and one of those left over.

        If a worker holds more than that, the others hold so many that one holds two fewer.
        """
        runnable = len(self._queue) + sum(map(len, self.workers))
        share, left_over = divmod(runnable, len(self.workers))
        others = sum(len(other) > share for other in self.workers if other is not slots)
        return share + (others < left_over)

    def _is_held(self, sequence: Sequence) -> bool:
        return any(sequence in slots for slots in self.workers)

    def _doom_late(self, now: float) -> None:
        for sequence in self._everyone:
            deadline = sequence.request.deadline
            if deadline is not None and now >= deadline and sequence not in self._doomed:
                self._doomed[sequence] = DeadlineError(
                    "the deadline passed before the text was complete"
                )
        self._soonest = min(self._deadlines(), default=inf)

    def _deadlines(self) -> Iterator[float]:
        """Yield the deadlines that are still to come."""
        for sequence in self._everyone:
            if sequence.request.deadline is not None and sequence not in self._doomed:
                yield sequence.request.deadline

    def _end(self, slots: Slots, sequence: Sequence) -> None:
        del self._everyone[sequence]
        self._doomed.pop(sequence, None)
        if sequence in slots:
            slots.release(sequence)
        elif sequence in self._stalled:
            self._stalled.remove(sequence)
        elif sequence in self._queue:
            self._queue.remove(sequence)
