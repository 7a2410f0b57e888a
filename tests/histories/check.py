"""The judgement of a history.

The answers of a session form a chain of steps, each from the state that the one before it left. A
call without an answer may be a step as well. A declared loss puts the chain back to one of its
steps, at the earliest the last that was answered before what the fault may lose. Where several
chains explain what was seen so far, all of them are followed; if none is left, the history cannot
be true.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from typing import NamedTuple, Protocol

from tests.histories.calls import Call, Look, Loss, Outcome
from tests.histories.oracle import Computed

UNSEEN_AT_MOST = 3  # calls without an answer between two answers
NEAR_SECONDS = 60.0  # if it is more than one, they began at most so long before

SHOWN = 40  # symbols of a text


class Text(Protocol):
    """Knows what follows a state."""

    start: bytes

    def go_on(self, state: bytes, prompt: str, length: int) -> Computed:
        """Return what follows."""
        ...


class Step(NamedTuple):
    """A change of a session.

    Attributes:
        before: the step that it followed.
        call: that made it; None for the start.
        position: that it reached.
        state: likewise.
        begun: when the last call so far began.
        unseen: the calls without an answer that have made a step so far.
    """

    before: "Step | None"
    call: Call | None
    position: int
    state: bytes
    begun: float
    unseen: "tuple[Call, object] | None" = None


class Path(NamedTuple):
    """An explanation of what was seen.

    Attributes:
        tip: its last step.
        late: calls that were answered while a store was killed, and changed the next one.
        since: what was answered earlier is kept; None if nothing may be lost.
        lost: answers that losses have undone.
    """

    tip: Step
    late: frozenset[Call]
    since: float | None = None
    lost: int = 0


class Verdict(NamedTuple):
    """What came of one session: what cannot be true, and how many answers were lost."""

    wrong: list[str]
    lost: int


class Judge:
    """Judges one session.

    Args:
        text: what its texts are.
        calls: all of the session.
        losses: that were declared, in their order.
        lease_seconds: for which a session is one server's alone.
    """

    def __init__(
        self, text: Text, calls: Iterable[Call], losses: Sequence[Loss], lease_seconds: float
    ) -> None:
        self._text = text
        self._calls = list(calls)
        self._losses = losses
        self._gone = [loss.gone for loss in losses]
        self._killed = [loss.killed for loss in losses]
        self._lease_seconds = lease_seconds
        self._maybe = [call for call in self._calls if call.outcome is Outcome.MAYBE]
        self._maybe.sort(key=lambda call: call.started)
        self._of_size: dict[int, list[Call]] = {}
        for call in self._maybe:
            self._of_size.setdefault(call.size, []).append(call)
        self._found = ""

    def judge(self, looks: Iterable[Look]) -> Verdict:
        """Tell what cannot be true."""
        wrong = [*self._look_back(looks), *self._taken_over()]
        paths = [Path(Step(None, None, 0, self._text.start, 0.0), frozenset())]
        done: dict[int, list[Call]] = {}
        for call in self._calls:
            if call.outcome is Outcome.DONE:
                done.setdefault(self._first(call), []).append(call)
        for epoch in range(len(self._losses) + 1):
            if epoch:
                since = self._losses[epoch - 1].since
                paths = [p._replace(since=min(since, p.since or since)) for p in paths]
            paths = self._follow(paths, done.get(epoch, []), epoch)
            if not paths:
                return Verdict([*wrong, self._found], 0)
        return Verdict(wrong, min(path.lost for path in paths))

    def _first(self, call: Call | Look) -> int:
        """Return the number of the first store that a call may have reached."""
        return bisect_right(self._gone, call.started)

    def _last(self, call: Call | Look) -> int:
        return bisect_left(self._killed, call.ended)

    def _follow(self, paths: list[Path], here: list[Call], epoch: int) -> list[Path]:
        """Follow the paths through what one store was told."""
        followed: dict[tuple[bytes, frozenset[Call]], Path] = {}
        for path in paths:
            calls = [*path.late, *here]
            must = [call for call in calls if self._last(call) == epoch]
            may = [call for call in calls if self._last(call) > epoch]
            for chosen in _subsets(may):
                late = frozenset(may).difference(chosen)
                begun = path._replace(late=late)
                for ended in self._walk(begun, sorted([*must, *chosen], key=_place)):
                    followed.setdefault((ended.tip.state, late), ended)
        return list(followed.values())

    def _walk(self, path: Path, calls: list[Call]) -> list[Path]:
        paths = [path]
        for call in calls:
            reached: dict[bytes, Path] = {}
            for each in paths:
                for after in self._step(each, call):
                    reached.setdefault(after.tip.state, after)
            if not reached:
                self._found = self._told(paths[0], call)
                return []
            paths = list(reached.values())
        return paths

    def _step(self, path: Path, call: Call) -> list[Path]:
        """Return the paths by which an answer may have come about."""
        bases = list(_bases(path)) if path.since is not None else [(path.tip, path.lost)]
        for base, lost in bases:
            if base.call is not None and _is_again(base.call, call):
                is_same = call.text == base.call.text
                return [Path(base, path.late, None, lost)] if is_same else []
        if call.expected not in {None, call.begins}:
            return []
        for unseen in range(UNSEEN_AT_MOST + 1):
            found = [
                Path(after, path.late, None, lost)
                for base, lost in bases
                for step in self._reach(base, call, unseen)
                if (after := self._apply(step, call)) is not None
            ]
            if found:
                return found
        return []

    def _reach(self, base: Step, call: Call, unseen: int) -> Iterator[Step]:
        """Reach the position of an answer by so many calls without one."""
        gap = call.begins - base.position
        if not unseen:
            if not gap:
                yield base
            return
        for maybe in self._of_size.get(gap, []) if unseen == 1 else self._near(call):
            if maybe.size > gap or maybe.started > call.ended:
                continue
            if maybe.expected not in {None, base.position} or _holds(base.unseen, maybe):
                continue
            made = self._text.go_on(base.state, maybe.prompt, maybe.length)
            begun = max(base.begun, maybe.started)
            used = (maybe, base.unseen)
            step = Step(base, maybe, base.position + maybe.size, made.state, begun, used)
            yield from self._reach(step, call, unseen - 1)

    def _near(self, call: Call) -> list[Call]:
        """Return the calls without an answer that began at about the time of another."""
        first = bisect_left(self._maybe, call.started - NEAR_SECONDS, key=_start)
        return self._maybe[first : bisect_right(self._maybe, call.ended, key=_start)]

    def _apply(self, base: Step, call: Call) -> Step | None:
        made = self._text.go_on(base.state, call.prompt, call.length)
        if made.text != call.text or call.ended < base.begun:
            return None
        begun = max(base.begun, call.started)
        return Step(base, call, call.position, made.state, begun, base.unseen)

    def _told(self, path: Path, call: Call) -> str:
        where = f"{call.session}: {call.text[:SHOWN]!r} at {call.begins}"
        if path.since is not None:
            *_, (kept, _) = _bases(path)
            return f"{where} after a loss that keeps {kept.position} of {path.tip.position}"
        if call.begins < path.tip.position:
            return f"{where}, but the session stood at {path.tip.position}"
        return f"{where} after {path.tip.position} is nothing that calls can have led to"

    def _taken_over(self) -> Iterator[str]:
        """Find requests whose session another server took although their leases held."""
        for call in self._calls:
            is_short = call.ended - call.started < self._lease_seconds
            if call.outcome is Outcome.TAKEN_OVER and is_short and self._is_within_one(call):
                yield (
                    f"{call.session}: taken over after {call.ended - call.started:.3f} s, "
                    "before its lease could end"
                )

    def _look_back(self, looks: Iterable[Look]) -> Iterator[str]:
        """Find positions that are older than what was answered before."""
        answers = [(call.ended, self._first(call), call.position) for call in self._calls
                   if call.outcome is Outcome.DONE and self._is_within_one(call)]  # fmt: skip
        answers.sort()
        known, number = [0] * (len(self._losses) + 1), 0
        for look in sorted(looks, key=lambda look: look.started):
            while number < len(answers) and answers[number][0] < look.started:
                _, epoch, position = answers[number]
                known[epoch] = max(known[epoch], position)
                number += 1
            if self._is_within_one(look) and look.position < known[self._first(look)]:
                yield (
                    f"{look.session}: was read at {look.position} after it had stood at "
                    f"{known[self._first(look)]}"
                )

    def _is_within_one(self, call: Call | Look) -> bool:
        return self._first(call) == self._last(call)


def _start(call: Call) -> float:
    return call.started


def _place(call: Call) -> tuple[int, float]:
    return call.begins, call.ended


def _is_again(first: Call, second: Call) -> bool:
    """Tell whether a call is a request that was sent again."""
    return (first.request, first.position) == (second.request, second.position)


def _bases(path: Path) -> Iterator[tuple[Step, int]]:
    """Give the steps that a loss may have put a session back to, and what it then has lost."""
    assert path.since is not None
    step: Step | None = path.tip
    lost = path.lost
    while step is not None:
        yield step, lost
        call = step.call
        if call is not None and call.outcome is Outcome.DONE:
            if call.ended < path.since:
                return
            lost += 1
        step = step.before


def _holds(unseen: object, call: Call) -> bool:
    while isinstance(unseen, tuple):
        first, unseen = unseen
        if first is call:
            return True
    return False


def _subsets(calls: list[Call]) -> Iterator[tuple[Call, ...]]:
    return chain.from_iterable(combinations(calls, n) for n in range(len(calls), -1, -1))
