"""The judgement of what became of one session.

The answers of a session form a chain of steps, each from the state that the one before it left: a
text goes on, a rewind leads back to one of the last places of the same text. A call without an
answer may be a step as well. A declared loss puts the chain back to one of its steps, at the
earliest the last that was answered before what the fault may lose. Where several chains explain
what was seen so far, all of them are followed; if none is left, the history cannot be true.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, combinations
from typing import NamedTuple

from tests.histories.calls import Birth, Call, Kind, Look, Loss, Outcome
from tests.histories.epochs import Epochs
from tests.histories.reads import Reads
from tests.histories.steps import GONE, Path, Point, Step, Text
from tests.histories.unseen import Unseen

UNSEEN_AT_MOST = 3  # calls without an answer between two answers
BACK = 40  # answers that are explained in more ways, if what follows has no explanation

SHOWN = 40  # symbols of a text
STEPS = {Kind.GO_ON, Kind.REWIND, Kind.END}  # what changes a session


class Verdict(NamedTuple):
    """What came of one session.

    Attributes:
        wrong: what cannot be true.
        lost: answers that losses have undone.
        births: where the sessions may stand that were started from it, by their ids.
    """

    wrong: list[str]
    lost: int
    births: dict[str, list[Point]]


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
        self._epochs = Epochs(losses)
        self._lease_seconds = lease_seconds
        self._unseen = Unseen(text, self._calls)
        self._found = ""

    def judge(
        self, starts: Sequence[Point], looks: Iterable[Look], births: Iterable[Birth]
    ) -> Verdict:
        """Tell what cannot be true.

        Args:
            starts: where the session may have begun.
            looks: at it.
            births: of sessions that were started from it.
        """
        wrong = [*self._epochs.taken_over(self._calls, self._lease_seconds)]
        paths = [Path(Step.first(point)) for point in starts]
        done: dict[int, list[Call]] = {}
        for call in self._calls:
            if call.outcome is Outcome.DONE and call.kind in STEPS:
                done.setdefault(self._epochs.first(call), []).append(call)
        for epoch in range(len(self._losses) + 1):
            if epoch:
                paths = [path.after(self._losses[epoch - 1]) for path in paths]
            paths = self._follow(paths, done.get(epoch, []), epoch)
            if not paths:
                return Verdict([*wrong, self._found], 0, {})
        path = min(paths, key=lambda path: path.lost)
        reads = Reads(path, self._unseen, self._text)
        wrong += chain.from_iterable(map(reads.judge, looks))
        began: dict[str, list[Point]] = {}
        for birth in births:
            began[birth.session] = [*reads.origins(birth)]
            if not began[birth.session]:
                wrong.append(
                    f"{birth.parent}: {birth.session} was started from it at {birth.position}, "
                    "where it did not stand then"
                )
        return Verdict(wrong, path.lost, began)

    def _follow(self, paths: list[Path], here: list[Call], epoch: int) -> list[Path]:
        """Follow the paths through what one store was told."""
        followed: dict[Hashable, Path] = {}
        for path in paths:
            calls = [*path.late, *here]
            must = [call for call in calls if self._epochs.last(call) == epoch]
            may = [call for call in calls if self._epochs.last(call) > epoch]
            for chosen in _subsets(may):
                late = frozenset(may).difference(chosen)
                begun = path._replace(late=late)
                for ended in self._walk(begun, sorted([*must, *chosen], key=_end)):
                    _join(followed, (ended.tip.point.key(), late), ended, float("inf"))
        return list(followed.values())

    def _walk(self, path: Path, calls: list[Call]) -> list[Path]:
        """Explain answers in the order of their arrival.

        At first, in the ways with the fewest calls without an answer. If nothing explains an answer
        then, those before it are explained in all ways.
        """
        earliest = [*accumulate((call.started for call in reversed(calls)), min)][::-1]
        reached, in_all_ways, number = [[path]], 0, 0
        while number < len(calls):
            call, later = calls[number], []
            for other in range(number + 1, len(calls)):
                if earliest[other] > call.ended:
                    break
                later += [calls[other]] * (calls[other].started <= call.ended)
            after = self._all_to(reached[-1], call, later, in_all_ways=number < in_all_ways)
            if after:
                reached.append(after)
                number += 1
            elif number < in_all_ways:
                self._found = self._told(reached[-1][0], call)
                return []
            else:
                in_all_ways = number + 1
                number = max(number - BACK, 0)
                del reached[number + 1 :]
        return reached[-1]

    def _all_to(
        self, paths: list[Path], call: Call, later: list[Call], *, in_all_ways: bool
    ) -> list[Path]:
        """Return the paths by which an answer may have come about."""
        reached: dict[Hashable, Path] = {}
        for path in paths:
            found: list[Path] = []
            if call in path.ahead:
                found = [path._replace(ahead=path.ahead - {call})]
            elif in_all_ways:
                found = [*self._orders(path, call, later, None)]
            else:
                for unseen in range(UNSEEN_AT_MOST + 1):
                    found = found or [*self._orders(path, call, later, unseen)]
            for after in found:
                _join(reached, (after.tip.point.key(), after.ahead), after, call.ended)
        return [*reached.values()]

    def _orders(
        self, path: Path, call: Call, later: list[Call], unseen: int | None
    ) -> Iterator[Path]:
        """Let a call, or first others that are answered later, make their steps.

        Args:
            path: so far.
            call: whose step is the last.
            later: others that began before it was answered.
            unseen: calls without an answer between them; None for as few for each as it needs.
        """
        for used, after in self._step(path, call, unseen):
            if unseen in {None, used}:
                yield after
        for other in later:
            if other in path.ahead:
                continue
            for used, after in self._step(path, other, unseen):
                ahead = after._replace(ahead=after.ahead | {other})
                left = None if unseen is None else unseen - used
                yield from self._orders(ahead, call, later, left)

    def _step(self, path: Path, call: Call, unseen: int | None) -> Iterator[tuple[int, Path]]:
        """Let a call make its step, after the fewest calls without an answer."""
        bases = [*path.bases()]
        for base, lost in bases:
            if base.call is not None and _is_again(base.call, call):
                if call.text == base.call.text:
                    yield 0, path.then(base, lost, call.ended)
                return
        if call.kind is Kind.GO_ON and call.expected not in {None, call.begins}:
            return
        for used in range((UNSEEN_AT_MOST if unseen is None else unseen) + 1):
            found = [
                (used, path.then(after, lost, call.ended))
                for base, lost in bases
                for step in self._reach(base, call, used)
                if (after := self._apply(step, call)) is not None
            ]
            if found:
                yield from found
                return

    def _reach(self, base: Step, call: Call, unseen: int) -> Iterator[Step]:
        """Reach where a call was answered by so many without an answer."""
        if not unseen:
            yield base
        elif call.kind is not Kind.END:
            position = call.begins if call.kind is Kind.GO_ON else call.target
            yield from self._unseen.reach(base, position, (call.started, call.ended), unseen)

    def _apply(self, base: Step, call: Call) -> Step | None:
        point = self._made(base.point, call)
        if point is None or not point.has(call.marks):
            return None
        return base.then(call, point)

    def _made(self, point: Point, call: Call) -> Point | None:
        """Return where a call leads from a place, if its answer can have come about there."""
        if call.kind is Kind.END:
            return Point(None, GONE, None)
        if call.kind is Kind.REWIND:
            return point.back(call.target)
        if point.position != call.begins:
            return None
        made = self._text.go_on(point.state, call.prompt, call.length)
        return Point(point, call.position, made.state) if made.text == call.text else None

    def _told(self, path: Path, call: Call) -> str:
        if call.kind is Kind.END:
            return f"{call.session}: was ended after it had been"
        if call.kind is Kind.REWIND:
            what, at = f"rewound to {call.target} with marks {call.marks}", call.target
        else:
            what, at = f"{call.text[:SHOWN]!r} at {call.begins}", call.begins
        where, stood = f"{call.session}: {what}", path.tip.point
        if path.loss is not None:
            *_, (kept, _) = path.bases()
            return f"{where} after a loss that keeps {kept.point.position} of {stood.position}"
        if stood.position == GONE:
            return f"{where}, but the session had been ended"
        if at < stood.position:
            return f"{where}, but the session stood at {stood.position}"
        return f"{where} after {stood.position} is nothing that calls can have led to"


def _end(call: Call) -> float:
    return call.ended


def _is_again(first: Call, second: Call) -> bool:
    """Tell whether a call is a request that was sent again."""
    what, again = ((call.kind, call.request, call.position) for call in (first, second))
    return what == again and second.kind is Kind.GO_ON


def _join(paths: dict[Hashable, Path], key: Hashable, path: Path, until: float) -> None:
    known = paths.get(key)
    paths[key] = path if known is None else known.joined(path, until)


def _subsets(calls: list[Call]) -> Iterator[tuple[Call, ...]]:
    return chain.from_iterable(combinations(calls, n) for n in range(len(calls), -1, -1))
