"""The judgement of a whole history: each session's, and of each where it was started from."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tests.histories.calls import Absence, Birth, Call, Kind, Look, Loss, Outcome
from tests.histories.check import Judge, Verdict
from tests.histories.steps import Point, Text

T = TypeVar("T", Call, Look)


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        births: of sessions.
        calls: answered or not.
        looks: at sessions.
        absences: of sessions.
        losses: that were declared.
    """

    births: list[Birth] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    losses: Sequence[Loss] = ()

    def until(self, now: float, running: Iterable[Call]) -> "Seen":
        """Return what was seen until a time: what was answered later may have happened or not."""
        answered = [call for call in self.calls if call.ended < now]
        later = [call for call in self.calls if call.ended >= now and call.started < now]
        unseen = [
            replace(call, outcome=Outcome.MAYBE, position=0, marks=(), text="")
            for call in (*later, *running)
        ]
        return Seen(
            [birth for birth in self.births if birth.ended < now],
            answered + unseen,
            [look for look in self.looks if look.ended < now],
            [absence for absence in self.absences if absence.ended < now],
            [*self.losses],
        )


def judge_all(
    text: Text, start: Hashable, seen: Seen, lease_seconds: float
) -> tuple[list[str], int]:
    """Find what cannot be true.

    Args:
        text: what the sessions' texts are.
        start: state of a text without symbols.
        seen: by clients.
        lease_seconds: for which a session is one server's alone.

    Returns:
        What is wrong, and how many answers losses have undone.
    """
    calls, looks = _by_session(seen.calls), _by_session(seen.looks)
    children: defaultdict[str, list[Birth]] = defaultdict(list)
    for birth in seen.births:
        children[birth.parent].append(birth)
    verdicts: dict[str, Future[Verdict | None]] = {}

    def one(birth: Birth) -> Verdict | None:
        """Judge a session; None if nobody knows what it was started from."""
        starts = [Point(None, 0, text.seeded(start, birth.seed))]
        if birth.parent:
            verdict = verdicts[birth.parent].result()
            starts = [] if verdict is None else verdict.births.get(birth.session, [])
        if not starts:
            return None
        session = birth.session
        judge = Judge(text, calls[session], seen.losses, lease_seconds)
        return judge.judge(starts, looks[session], children[session])

    with ThreadPoolExecutor() as threads:
        for birth in seen.births:  # parents first, so that all whom others wait for are judged
            verdicts[birth.session] = threads.submit(one, birth)
    told = [verdict for each in verdicts.values() if (verdict := each.result()) is not None]
    wrong = [what for verdict in told for what in verdict.wrong]
    return [*wrong, *_wrongly_absent(seen)], sum(verdict.lost for verdict in told)


def _by_session(all_of_them: Iterable[T]) -> defaultdict[str, list[T]]:
    found: defaultdict[str, list[T]] = defaultdict(list)
    for each in all_of_them:
        found[each.session].append(each)
    return found


def _wrongly_absent(seen: Seen) -> Iterator[str]:
    """Find sessions that were gone although nobody ended them and no loss undid their start."""
    ends: dict[str, float] = {}
    for call in seen.calls:
        if call.kind is Kind.END and call.outcome in {Outcome.DONE, Outcome.MAYBE}:
            ends[call.session] = min(ends.get(call.session, call.started), call.started)
    born = {birth.session: birth.ended for birth in seen.births}
    for absence in seen.absences:
        session = absence.session
        if absence.is_ended:
            if ends.get(session, float("inf")) > absence.ended:
                yield f"{session}: is told to be ended, and nobody ended it"
        elif not any(
            loss.since <= born[session] and loss.killed <= absence.ended for loss in seen.losses
        ):
            yield f"{session}: no loss undid its start, but it was told: {absence.told}"
