"""The queue of sequences that wait for a slot; their callers take turns."""

from collections import Counter, OrderedDict
from collections.abc import Iterator

from serving.engine.sequences.sequence import Sequence

Turns = OrderedDict[Sequence, None]


class FairQueue:
    """Keeps each caller's sequences in order, and the callers in turns.

    The caller with the fewest sequences in slots comes first; among equals, whoever has waited
    longest for its turn. (Max-min fairness, as fair queueing in routers: Demers, Keshav, Shenker,
    1989.)
    """

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, Turns] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._of.get(sequence.request.caller, ())

    def append(self, sequence: Sequence) -> None:
        """Add a sequence behind its caller's others."""
        self._of.setdefault(sequence.request.caller, OrderedDict())[sequence] = None
        self._length += 1

    def append_first(self, sequence: Sequence) -> None:
        """Add a sequence before its caller's others."""
        self.append(sequence)
        self._of[sequence.request.caller].move_to_end(sequence, last=False)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence."""
        caller = sequence.request.caller
        del self._of[caller][sequence]
        self._length -= 1
        if not self._of[caller]:
            del self._of[caller]

    def next(self, held: Counter[bytes]) -> bytes:
        """Return the caller whose turn it is; one or more must wait.

        Args:
            held: how many slots each caller has.
        """
        if len(self._of) == 1:
            return next(iter(self._of))
        idle = next((caller for caller in self._of if not held[caller]), None)
        return min(self._of, key=held.__getitem__) if idle is None else idle

    def pop_some(self, most: int, held: Counter[bytes]) -> list[Sequence]:
        """Remove the next sequence, and those behind it up to so many, if all are one caller's."""
        if len(self._of) > 1:
            return [self.pop(held)]
        (turns,) = self._of.values()
        some = [turns.popitem(last=False)[0] for _ in range(min(most, len(turns)))]
        self._length -= len(some)
        if not turns:
            self._of.clear()
        return some

    def pop(self, held: Counter[bytes]) -> Sequence:
        """Remove the next sequence; its caller's next turn comes last."""
        caller = self.next(held)
        turns = self._of[caller]
        sequence, _ = turns.popitem(last=False)
        self._length -= 1
        if turns:
            self._of.move_to_end(caller)
        else:
            del self._of[caller]
        return sequence

    def youngest_of_greediest(self, other: bytes) -> Sequence | None:
        """Return the last sequence of the caller with the most, if those are more than another's.

        Args:
            other: a caller that wants to add one more.
        """
        greediest = max(self._of.values(), key=len)
        if len(greediest) <= len(self._of.get(other, ())) + 1:
            return None
        return next(self._untouched(greediest), None)

    @staticmethod
    def _untouched(turns: Turns) -> Iterator[Sequence]:
        return (each for each in reversed(turns) if each.times.began is None)
