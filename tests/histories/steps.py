"""How a session came to be where it is: what the checker makes of calls."""

from collections.abc import Hashable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from tests.histories.calls import Call, Loss, Outcome
from tests.histories.oracle import Computed

MARKS = 4  # places to which a session can be rewound, its current one included
JOINED = 100  # steps at most by which paths differ that led to the same
GONE = -1  # position of a session that was ended


class Text(Protocol):
    """Knows what follows a state."""

    def go_on(self, state: Hashable, prompt: str, length: int) -> Computed:
        """Return what follows."""
        ...

    def score(self, state: Hashable, text: str) -> tuple[float, ...]:
        """Return how likely each symbol of a text is after a state, in nats."""
        ...

    def seeded(self, state: Hashable, seed: int) -> Hashable:
        """Return a state from which another seed goes on."""
        ...


class Point(NamedTuple):
    """A place of a text.

    Attributes:
        before: the place that its last answer went on from.
        position: of its next symbol.
        state: all that determines what follows.
    """

    before: "Point | None"
    position: int
    state: Hashable

    def marks(self) -> "Iterator[Point]":
        """Give the places to which a session that stands here may be rewound, the last first."""
        point: Point | None = self
        for _ in range(MARKS):
            if point is None:
                return
            yield point
            point = point.before

    def key(self) -> Hashable:
        """Return what all that can be seen from now on depends on; texts of branches may meet."""
        return tuple((point.position, point.state) for point in self.marks())

    def back(self, position: int) -> "Point | None":
        """Return the place to which a session that stands here is rewound; None for none."""
        return next((point for point in self.marks() if point.position == position), None)

    def has(self, marks: tuple[int, ...]) -> bool:
        """Tell whether a session that stands here may have these marks."""
        return set(marks) <= {point.position for point in self.marks()}


class Step(NamedTuple):
    """A change of a session.

    Attributes:
        before: the step that it followed.
        call: that made it; None for the start.
        point: where it led.
        begun: when the last call so far began.
        until: when it had been made at the latest.
        past: the step that was seen before it: `before`, unless that is where a loss led.
        unseen: the calls without an answer that have made a step so far.
        equals: steps of other paths that led to the same.
    """

    before: "Step | None"
    call: Call | None
    point: Point
    begun: float
    until: float
    past: "Step | None"
    unseen: "tuple[Call, object] | None" = None
    equals: "tuple[Step, ...]" = ()

    @classmethod
    def first(cls, point: Point) -> "Step":
        """Return the start of a session."""
        return cls(None, None, point, 0.0, 0.0, None)

    def then(self, call: Call, point: Point) -> "Step":
        """Return what a call makes of it."""
        is_seen = call.outcome is Outcome.DONE
        until = call.ended if is_seen else float("inf")
        unseen = self.unseen if is_seen else (call, self.unseen)
        return Step(self, call, point, max(self.begun, call.started), until, self, unseen)

    def history(self) -> "Iterator[Step]":
        """Give what was seen, the last first."""
        step: Step | None = self
        while step is not None:
            yield step
            step = step.past

    def has_used(self, call: Call) -> bool:
        """Tell whether a call without an answer has made a step already."""
        unseen: object = self.unseen
        while isinstance(unseen, tuple):
            first, unseen = unseen
            if first is call:
                return True
        return False


class Doubt(NamedTuple):
    """Where a session may have stood for a while, beside where a path led.

    Attributes:
        since: when that began at the earliest.
        until: when it was over at the latest.
        steps: at which it may have stood.
    """

    since: float
    until: float
    steps: tuple[Step, ...]


class Path(NamedTuple):
    """An explanation of what was seen.

    Attributes:
        tip: its last step.
        late: calls that were answered while a store was killed, and changed the next one.
        ahead: calls that have made a step, and were answered only later.
        loss: that may have undone the last steps; None if nothing may be lost.
        lost: answers that losses have undone.
        doubts: about what earlier losses undid, and in which order earlier calls made their steps.
    """

    tip: Step
    late: frozenset[Call] = frozenset()
    ahead: frozenset[Call] = frozenset()
    loss: Loss | None = None
    lost: int = 0
    doubts: tuple[Doubt, ...] = ()

    def then(self, tip: Step, lost: int, answered: float) -> "Path":
        """Return what an answer makes of it."""
        return self._replace(tip=tip, lost=lost, loss=None, doubts=self.doubted(answered))

    def doubted(self, until: float) -> tuple[Doubt, ...]:
        """Return all doubts, of which one about the last loss ends at a time."""
        if self.loss is None:
            return self.doubts
        doubt = Doubt(self.loss.killed, until, tuple(step for step, _ in self.bases()))
        return (*self.doubts, doubt)

    def joined(self, other: "Path", until: float) -> "Path":
        """Return what stands for another path, too, which had led to the same at a time."""
        known = {id(step) for step in islice(self.tip.history(), JOINED)}
        doubts = {id(doubt): doubt for doubt in (*self.doubts, *other.doubts)}
        for step in islice(other.tip.history(), JOINED):
            if id(step) in known:
                break
            doubt = Doubt(step.begun, until, (step,))
            doubts[id(doubt)] = doubt
        tip = self.tip._replace(equals=(*self.tip.equals, other.tip))
        return self._replace(tip=tip, doubts=tuple(doubts.values()))

    def after(self, loss: Loss) -> "Path":
        """Return what a loss makes of it, after which it stands at one of `bases`."""
        if self.loss is None:
            return self._replace(loss=loss)
        since = min(self.loss.since, loss.since)
        return self._replace(loss=Loss(since=since, killed=self.loss.killed, gone=loss.gone))

    def bases(self) -> Iterator[tuple[Step, int]]:
        """Give the steps at which the session may stand, and the answers then lost."""
        yield self.tip, self.lost
        if self.loss is None:
            return
        steps, known = [(self.tip, self.lost)], set[int]()
        while steps:
            step, lost = steps.pop()
            if id(step) in known:
                continue
            known.add(id(step))
            steps += [(equal, lost) for equal in step.equals]
            if step.before is not None and not self._is_kept(step):
                lost += step.call is not None and step.call.outcome is Outcome.DONE
                step = step.before
                begun = max(step.begun, self.loss.killed)
                yield step._replace(begun=begun, until=self.loss.gone, past=self.tip), lost
                steps.append((step, lost))

    def _is_kept(self, step: Step) -> bool:
        assert self.loss is not None
        call = step.call
        return call is not None and call.outcome is Outcome.DONE and call.ended < self.loss.since
