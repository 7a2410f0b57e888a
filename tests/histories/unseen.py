"""What calls without an answer may have made of a session."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from tests.histories.calls import Call, Kind, Outcome
from tests.histories.steps import GONE, Step, Text

NEAR_SECONDS = 60.0  # if it is more than one, they began at most so long before
RECENT_SECONDS = 10.0  # likewise, if the position is not known to which they led


class Unseen:
    """Calls of one session that got no answer.

    A rewind after a text leads where the rewind alone leads. So what any number of them make of a
    session is what at most one rewind makes of it, and then texts.

    Args:
        text: what its texts are.
        calls: of the session, also answered ones.
    """

    def __init__(self, text: Text, calls: Iterable[Call]) -> None:
        self._text = text
        maybe = [call for call in calls if call.outcome is Outcome.MAYBE]
        maybe.sort(key=_start)
        self._texts = [call for call in maybe if call.kind is Kind.GO_ON]
        self._of_size: dict[int, list[Call]] = {}
        for call in self._texts:
            self._of_size.setdefault(call.size, []).append(call)
        self._to: dict[int, list[Call]] = {}
        for call in maybe:
            if call.kind is Kind.REWIND:
                self._to.setdefault(call.target, []).append(call)

    def reach(
        self, base: Step, position: int, by: tuple[float, float], count: int
    ) -> Iterator[Step]:
        """Reach a position by so many of them.

        Args:
            base: where the session stands.
            position: to reach.
            by: when the call began and ended that found it there.
            count: of calls, 1 or more.
        """
        if base.point.position == GONE:
            return
        yield from self._go_on(base, position, by, count)
        for point in [*base.point.marks()][1:]:
            is_there = point.position == position
            if is_there != (count == 1) or point.position > position:
                continue
            since = by[0] - NEAR_SECONDS if count > 1 else 0.0
            call = self._rewind(base, point.position, since, by[1])
            if call is None:
                continue
            step = base.then(call, point)
            yield from [step] if is_there else self._go_on(step, position, by, count - 1)

    def _rewind(self, base: Step, target: int, since: float, until: float) -> Call | None:
        """Return the first rewind to a position that may still be made; any does the same."""
        for call in self._to.get(target, []):
            if since <= call.started <= until and not base.has_used(call):
                return call
        return None

    def anywhere(self, base: Step, by: tuple[float, float], count: int) -> Iterator[Step]:
        """Reach all positions that recent ones can lead to; else as `reach`."""
        sizes = {call.size for call in self._near(by, RECENT_SECONDS)}
        ends = {point.position for point in base.point.marks()}
        for _ in range(count):
            ends |= {end + size for end in ends for size in sizes}
        for position in ends:
            yield from self.reach(base, position, by, count)

    def _go_on(
        self, base: Step, position: int, by: tuple[float, float], count: int
    ) -> Iterator[Step]:
        gap = position - base.point.position
        texts = self._of_size.get(gap, []) if count == 1 else self._near(by)
        for call in texts:
            if call.started > by[1]:
                break
            left = gap - call.size
            if left < 0 or (left == 0) != (count == 1) or base.has_used(call):
                continue
            if call.expected not in {None, base.point.position}:
                continue
            if count == 2 and left not in self._of_size:
                continue
            step = self.apply(base, call)
            if count == 1:
                yield step
            else:
                yield from self._go_on(step, position, by, count - 1)

    def apply(self, base: Step, call: Call) -> Step:
        """Let a text be written."""
        made = self._text.go_on(base.point.state, call.prompt, call.length)
        after = base.point._replace(
            before=base.point, position=base.point.position + call.size, state=made.state
        )
        return base.then(call, after)

    def _near(self, by: tuple[float, float], seconds: float = NEAR_SECONDS) -> list[Call]:
        """Return the texts that began at about the time of a call."""
        first = bisect_left(self._texts, by[0] - seconds, key=_start)
        return self._texts[first : bisect_right(self._texts, by[1], key=_start)]


def _start(call: Call) -> float:
    return call.started
