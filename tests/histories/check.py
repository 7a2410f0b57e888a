"""The judgement of a history."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise


class Outcome(Enum):
    """What a client knows of its call."""

    DONE = "done"
    REFUSED = "refused"  # and so it changed nothing
    MAYBE = "maybe"  # no answer came


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to go on with a session.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        length: symbols that were asked for.
        expected: position that the client gave, if it did.
        outcome: of it.
        position: after the answer; 0 without one.
        text: of the answer.
    """

    session: str
    started: float
    ended: float
    length: int
    expected: int | None = None
    outcome: Outcome
    position: int = 0
    text: str = ""

    @property
    def begins(self) -> int:
        """Position of the answer's first symbol."""
        return self.position - self.length


@dataclass(frozen=True, kw_only=True)
class Look:
    """A position that was read.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        position: that was told.
    """

    session: str
    started: float
    ended: float
    position: int


def violations(
    session: str, truth: str, calls: Iterable[Call], looks: Iterable[Look], last: int
) -> Iterator[str]:
    """Tell what cannot be true of one session, if nothing that was acknowledged may be lost.

    Args:
        session: its id.
        truth: its text, computed alone.
        calls: all of them.
        looks: all of them.
        last: where the session stood in the end.
    """
    done = sorted(
        (call for call in calls if call.outcome is Outcome.DONE), key=lambda call: call.begins
    )
    maybe = [call.length for call in calls if call.outcome is Outcome.MAYBE]
    for call in done:
        if call.text != truth[call.begins : call.position]:
            yield f"{session}: text at {call.begins} is {call.text!r}"
    chain = _chain(done)
    for first, second in pairwise(chain):
        if second.begins < first.position:
            yield (
                f"{session}: {first.begins} to {first.position} and {second.begins} to "
                f"{second.position} were both answered"
            )
        elif not _is_sum(second.begins - first.position, maybe):
            yield f"{session}: nobody wrote from {first.position} to {second.begins}"
        if second.ended < first.started:
            yield f"{session}: {second.begins} was answered before {first.begins} was asked for"
    end = chain[-1].position if chain else 0
    if not _is_sum(last - end, maybe):
        yield f"{session}: stands at {last} in the end, was answered up to {end}"
    for look in looks:
        known = max((c.position for c in done if c.ended < look.started), default=0)
        if look.position < known:
            yield f"{session}: was read at {look.position} after it had stood at {known}"


def _chain(done: list[Call]) -> list[Call]:
    """Leave out requests that were sent again and got the same answer."""
    chain: list[Call] = []
    for call in done:
        before = chain[-1] if chain else None
        is_again = (
            before is not None
            and call.expected is not None
            and (call.expected, call.length, call.position)
            == (before.expected, before.length, before.position)
        )
        if not is_again:
            chain.append(call)
    return chain


def _is_sum(gap: int, lengths: list[int]) -> bool:
    """Tell whether a gap is what some of the calls without an answer would have written."""
    reached = {0}
    for length in lengths:
        reached |= {total + length for total in reached if total + length <= gap}
    return gap in reached
