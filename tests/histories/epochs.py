"""The stores that declared losses part, one after the other."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from tests.histories.calls import Call, Loss, Outcome


class Epochs:
    """Tells which stores a call may have reached.

    Args:
        losses: that were declared, in their order.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        self._gone = [loss.gone for loss in losses]
        self._killed = [loss.killed for loss in losses]

    def first(self, call: Call) -> int:
        """Return the number of the first store that a call may have reached."""
        return bisect_right(self._gone, call.started)

    def last(self, call: Call) -> int:
        """Return the number of the last one."""
        return bisect_left(self._killed, call.ended)

    def taken_over(self, calls: Iterable[Call], lease_seconds: float) -> Iterator[str]:
        """Find requests whose session another server took although their leases held."""
        for call in calls:
            is_short = call.ended - call.started < lease_seconds
            is_within_one = self.first(call) == self.last(call)
            if call.outcome is Outcome.TAKEN_OVER and is_short and is_within_one:
                yield (
                    f"{call.session}: taken over after {call.ended - call.started:.3f} s, "
                    "before its lease could end"
                )
