"""The checker finds sessions that cannot have been started or ended like that."""

from dataclasses import replace

import pytest

from tests.histories.calls import Absence, Birth, Call, Kind, Loss, Outcome
from tests.histories.judging import Seen, judge_all
from tests.histories.made_up import (
    FIRST,
    LEASE,
    LOSS,
    ONE,
    SECOND,
    TEXT,
    THIRD,
    THREE,
    TWO,
    at,
    look,
    maybe,
    rewound,
    then,
    was_ended,
)

CHILD = TEXT.seeded(ONE, 1)  # of a fork of `s` where its first answer left it


def born(started: float, position: int, seed: int, after: Call | None = None) -> Birth:
    return Birth(
        session="c", started=started, ended=started + 1, position=position, seed=seed, parent="s",
        after=after,
    )  # fmt: skip


def of_child(state: bytes, prompt: str, when: float) -> Call:
    return at(state, prompt, when, session="c")


def judged_whole(*seen: Call | Birth | Absence, losses: tuple[Loss, ...] = ()) -> list[str]:
    births = [Birth(session="s", started=0.0, ended=0.0, seed=0)]
    births += [each for each in seen if isinstance(each, Birth)]
    calls = [each for each in seen if isinstance(each, Call)]
    absences = [each for each in seen if isinstance(each, Absence)]
    whole = Seen(births, calls, absences=absences, losses=losses)
    return judge_all(TEXT, b"", whole, LEASE)[0]


def gone(when: float, *, is_ended: bool, session: str = "c") -> Absence:
    return Absence(session=session, started=when, ended=when + 1, is_ended=is_ended)


FORK = Call(session="s", kind=Kind.FORK, started=1.5, ended=2.5, outcome=Outcome.DONE, position=5)
END = replace(was_ended(4.0), session="c")
MAYBE_END = replace(END, outcome=Outcome.MAYBE)
CREATED = born(3.6, 10, 1)  # while LOSS may undo it
TRUE_BIRTHS = {
    "forked, and both went on": (
        FIRST, FORK, born(1.5, 5, 1), SECOND, of_child(CHILD, "c", 4.0)),
    "forked while it went on": (FIRST, born(2.5, 5, 1), SECOND, of_child(CHILD, "c", 4.0)),
    "forked before it was rewound": (
        FIRST, SECOND, rewound(5, 4.0), born(3.5, 10, 0), of_child(TWO, "c", 6.0)),
    "forked after a call without an answer": (
        FIRST, maybe("x", 1.0), born(3.0, 10, 0), of_child(then(ONE, "x"), "c", 6.0)),
    "forked, rewound to its start": (
        FIRST, born(1.5, 5, 1), of_child(CHILD, "c", 4.0),
        replace(rewound(5, 6.0), session="c"), of_child(CHILD, "d", 8.0)),
    "went on from a capsule of what was rewound": (
        FIRST, SECOND, rewound(5, 4.0), at(ONE, "d", 6.0), born(9.0, 10, 0, SECOND),
        of_child(TWO, "c", 12.0)),
    "ended": (FIRST, born(1.5, 5, 1), END, gone(6.0, is_ended=True)),
    "ended by a call without an answer": (
        FIRST, born(1.5, 5, 1), MAYBE_END, gone(6.0, is_ended=True)),
    "not ended by a call without an answer": (
        FIRST, born(1.5, 5, 1), MAYBE_END, of_child(CHILD, "c", 6.0)),
}  # fmt: skip
WRONG_BIRTHS = {
    "forked where it never stood": ((FIRST, born(2.5, 7, 1)), "was started from it at 7"),
    "forked where it stood earlier": (
        (FIRST, SECOND, born(4.0, 5, 1)), "where it did not stand then"),
    "forked where it stood only later": ((FIRST, SECOND, born(0.5, 10, 1)), "did not stand then"),
    "forked where it stood before it was rewound": (
        (FIRST, SECOND, rewound(5, 4.0), born(6.0, 10, 1)), "did not stand then"),
    "went on with its parent's seed": (
        (FIRST, born(1.5, 5, 1), of_child(ONE, "c", 4.0)), "c: "),
    "went on from another branch": (
        (FIRST, SECOND, rewound(5, 4.0), at(ONE, "d", 6.0), born(8.0, 10, 0),
         of_child(TWO, "c", 12.0)), "c: "),
    "rewound to before its start": (
        (FIRST, SECOND, born(4.0, 10, 0), replace(rewound(5, 6.0), session="c")), "rewound to 5"),
    "its capsule is of another place": ((FIRST, SECOND, born(4.0, 5, 0, SECOND)), "at 5"),
    "ended by nobody": (
        (FIRST, born(1.5, 5, 1), gone(6.0, is_ended=True)), "nobody ended it"),
    "ended before somebody asked for that": (
        (FIRST, born(1.5, 5, 1), gone(2.0, is_ended=True), END), "nobody ended it"),
    "unknown without a loss": (
        (FIRST, born(1.5, 5, 1), gone(6.0, is_ended=False)), "no loss undid its start"),
}  # fmt: skip


@pytest.mark.parametrize("seen", TRUE_BIRTHS.values(), ids=TRUE_BIRTHS)
def test_sessions_that_may_have_been_started_from_another_are_not_found_wrong(
    seen: tuple[Call | Birth | Absence, ...],
) -> None:
    assert judged_whole(*seen) == []


@pytest.mark.parametrize(("seen", "told"), WRONG_BIRTHS.values(), ids=WRONG_BIRTHS)
def test_sessions_that_cannot_have_been_started_like_that_are_found(
    seen: tuple[Call | Birth | Absence, ...], told: str
) -> None:
    (found,) = judged_whole(*seen)
    assert told in found


@pytest.mark.parametrize(
    ("birth", "absence", "is_wrong"),
    [(CREATED, gone(20.0, is_ended=False), False), (CREATED, gone(6.0, is_ended=False), True),
     (born(1.5, 5, 1), gone(20.0, is_ended=False), True)],
    ids=["undone", "before the loss", "kept"],
)  # fmt: skip
def test_session_is_unknown_only_after_a_loss_that_may_have_undone_its_start(
    birth: Birth, absence: Absence, is_wrong: bool
) -> None:
    assert bool(judged_whole(FIRST, SECOND, birth, absence, losses=(LOSS,))) == is_wrong


def test_what_was_answered_after_the_time_of_a_judgement_may_have_happened_or_not() -> None:
    running = maybe("e", 4.5)
    seen = Seen([], [FIRST, SECOND, THIRD, at(THREE, "d", 6.0)], [look(10, 2.0), look(15, 4.5)])
    cut = seen.until(4.7, [running])
    assert [call.outcome for call in cut.calls] == [
        Outcome.DONE, Outcome.DONE, Outcome.MAYBE, Outcome.MAYBE
    ]  # fmt: skip
    assert cut.looks == [look(10, 2.0)]
