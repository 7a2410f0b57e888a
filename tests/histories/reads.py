"""The judgement of what was read: the session stood there between question and answer."""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterator
from itertools import accumulate
from math import isclose

from tests.histories.calls import Birth, Kind, Look
from tests.histories.steps import GONE, Path, Point, Step, Text
from tests.histories.unseen import Unseen

UNSEEN_AT_MOST = 2  # calls without an answer whose traces nobody else saw


class Reads:
    """What a session was, from its start to its end.

    Args:
        path: by which it went.
        unseen: calls without an answer.
        text: what its texts are.
    """

    def __init__(self, path: Path, unseen: Unseen, text: Text) -> None:
        self._unseen = unseen
        self._text = text
        steps = [*path.tip.history()]
        self._steps = steps[::-1]
        self._begun = [*accumulate((each.begun for each in self._steps), max)]
        self._until = [*accumulate((each.until for each in steps), min)][::-1]
        self._doubts = path.doubted(float("inf"))
        self._after = {
            (each.call.request, each.call.position): each.point
            for each in self._steps
            if each.call is not None and each.call.kind is Kind.GO_ON
        }

    def judge(self, look: Look) -> Iterator[str]:
        """Tell whether what was read cannot have been."""
        places = self._places(look.started, look.ended, look.position)
        if not any(self._is_as(point, look) for point in places):
            stood = sorted({each.point.position for each in self._during(look.started, look.ended)})
            yield f"{look.session}: {look} while it stood at {stood}"

    def _is_as(self, point: Point, look: Look) -> bool:
        if look.position is not None:
            return point.has(look.marks)
        scores = self._text.score(point.state, look.text) if point.position != GONE else ()
        return len(scores) == len(look.scores) and all(map(isclose, scores, look.scores))

    def origins(self, birth: Birth) -> Iterator[Point]:
        """Give the places at which a session may have been started from this one."""
        if birth.after is not None:
            point = self._after.get((birth.after.request, birth.after.position))
            places = iter([point] if point is not None else [])
        else:
            places = self._places(birth.started, birth.ended, birth.position)
        known: set[Hashable] = set()
        for point in places:
            if point.position == birth.position and point.state not in known:
                known.add(point.state)
                state = self._text.seeded(point.state, birth.seed)
                yield Point(None, point.position, state)

    def _places(self, started: float, ended: float, position: int | None) -> Iterator[Point]:
        """Give where the session may have stood; None for a position that is not known."""
        steps, by = self._during(started, ended), (started, ended)
        yield from (step.point for step in steps if position in {None, step.point.position})
        for count in range(1, UNSEEN_AT_MOST + 1):
            for step in steps:
                if position is None:
                    reached = self._unseen.anywhere(step, by, count)
                else:
                    reached = self._unseen.reach(step, position, by, count)
                yield from (each.point for each in reached)

    def _during(self, started: float, ended: float) -> list[Step]:
        """Return the steps after which the session may have stood at a time."""
        first = max(bisect_left(self._until, started) - 1, 0)
        steps = self._steps[first : bisect_right(self._begun, ended)]
        doubts = [each for each in self._doubts if each.since <= ended and started <= each.until]
        return steps + [step for each in doubts for step in each.steps]
