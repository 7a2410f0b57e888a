"""The checker finds what cannot be true of a session, and nothing else."""

from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest

from tests.histories.calls import Call, Look, Loss, Outcome
from tests.histories.check import Judge
from tests.histories.made_up import (
    FIRST,
    LEASE,
    LOSS,
    ONE,
    SECOND,
    START,
    TEXT,
    THIRD,
    THREE,
    TWO,
    Letters,
    at,
    judged,
    look,
    maybe,
    maybe_rewound,
    rewound,
    then,
    was_ended,
)
from tests.histories.oracle import Computed

TRUE = {
    "one chain": [FIRST, SECOND, THIRD],
    "two at once": [at(b"", "a", 1.0), at(ONE, "b", 0.5)],
    "a call without an answer made a step": [FIRST, maybe("x", 1.0), at(then(ONE, "x"), "b", 5.0)],
    "it made none": [FIRST, maybe("x", 1.0), SECOND],
    "two made steps, in another order": [
        FIRST, maybe("x", 1.0), maybe("y", 1.0), at(then(then(ONE, "y"), "x"), "b", 5.0)
    ],
    "rewound, and went on": [FIRST, SECOND, rewound(5, 4.0), at(ONE, "d", 6.0)],
    "rewound to where it stood": [FIRST, rewound(5, 2.0), at(ONE, "b", 4.0)],
    "rewound, and went on as before": [
        FIRST, SECOND, rewound(5, 4.0), at(ONE, "b", 6.0), at(TWO, "c", 8.0)
    ],
    "rewound to where the first request of all led": [
        FIRST, replace(SECOND, request=0), rewound(10, 4.0), at(TWO, "c", 6.0)
    ],
    "rewound twice": [
        FIRST, SECOND, rewound(5, 4.0), at(ONE, "d", 6.0), rewound(5, 8.0), at(ONE, "e", 10.0)
    ],
    "a rewind without an answer made a step": [
        FIRST, SECOND, maybe_rewound(5, 4.0), at(ONE, "d", 6.0)
    ],
    "a rewind without an answer made none": [FIRST, SECOND, maybe_rewound(5, 4.0), THIRD],
    "a rewind and a text without an answer made steps": [
        FIRST, SECOND, maybe_rewound(5, 4.0), maybe("x", 4.0), at(then(ONE, "x"), "d", 6.0)
    ],
    "rewound to where a call without an answer led": [
        FIRST, maybe("x", 1.0), rewound(10, 3.0), at(then(ONE, "x"), "d", 6.0)
    ],
    "a rewind was answered later than what followed it": [
        FIRST, SECOND, rewound(5, 3.5, ended=9.0), at(ONE, "d", 4.0), at(then(ONE, "d"), "e", 6.0)
    ],
    "a text was answered later than the rewind that undid it": [
        FIRST, maybe("x", 1.0), at(then(ONE, "x"), "y", 2.0, ended=9.0), rewound(5, 4.0),
        at(ONE, "d", 6.0), at(then(ONE, "d"), "e", 10.0)
    ],
    "ended": [FIRST, was_ended(2.0)],
    "ended twice at once": [FIRST, was_ended(2.0), was_ended(2.5)],
    "a request was sent again and answered again": [
        FIRST, replace(SECOND, expected=5, request=7),
        replace(SECOND, expected=5, request=7, started=4.0, ended=5.0), at(TWO, "c", 6.0),
    ],
}  # fmt: skip
TRUE_WITH_LOSS = {
    "a rewind was lost": [FIRST, SECOND, rewound(5, 4.0), at(TWO, "d")],
    "a rewind and what followed it were lost": [
        FIRST, SECOND, rewound(5, 4.0), at(ONE, "x", 6.0), at(TWO, "d")
    ],
    "what followed a rewind was lost": [
        FIRST, SECOND, rewound(5, 4.0), at(ONE, "x", 6.0), at(ONE, "d")
    ],
    "an end was lost": [FIRST, SECOND, was_ended(4.0), at(TWO, "d")],
    "nothing was lost": [FIRST, SECOND, THIRD, at(THREE, "d")],
    "the third was lost": [FIRST, SECOND, THIRD, at(TWO, "d")],
    "nothing was asked for since": [FIRST, SECOND, THIRD],
    "a call without an answer was kept": [
        FIRST, SECOND, maybe("x", 3.0), at(then(TWO, "x"), "c", 4.0),
        at(then(TWO, "x"), "d"),
    ],
    "it went on from there as one chain": [
        FIRST, SECOND, THIRD, at(TWO, "d"), at(then(TWO, "d"), "e", 22.0)
    ],
    "the lost request was sent again": [
        FIRST, SECOND, replace(THIRD, expected=10, request=7),
        replace(THIRD, expected=10, request=7, started=20.0, ended=21.0),
        at(THREE, "e", 22.0),
    ],
    "the kept request was sent again": [
        FIRST, replace(SECOND, expected=5, request=7), THIRD,
        replace(SECOND, expected=5, request=7, started=20.0, ended=21.0), at(TWO, "e", 22.0),
    ],
    "a call while the store was killed changed the old one": [
        FIRST, SECOND, at(TWO, "x", 9.0, ended=12.0), at(TWO, "e")
    ],
    "it changed the new one": [
        FIRST, SECOND, THIRD, at(TWO, "x", 9.0, ended=12.0), at(then(TWO, "x"), "e")
    ],
}  # fmt: skip
WRONG = {
    "other text": ([FIRST, replace(SECOND, text="0000")], "nothing that calls can have led to"),
    "two at one position": ([FIRST, SECOND, at(ONE, "x", 5.0)], "but the session stood at 10"),
    "the same twice": ([FIRST, SECOND, replace(SECOND, request=8)], "the session stood at 10"),
    "nobody wrote between": ([FIRST, at(then(ONE, "x"), "b", 5.0)], "after 5 is nothing"),
    "it began only later": (
        [FIRST, at(then(ONE, "x"), "b", 5.0), maybe("x", 7.0)], "after 5 is nothing"),
    "one request made two steps": (
        [FIRST, maybe("x", 1.0), at(then(then(ONE, "x"), "x"), "b", 5.0)], "after 5 is nothing"),
    "a request made a step elsewhere than expected": (
        [FIRST, maybe("x", 1.0, expected=0), at(then(ONE, "x"), "b", 5.0)], "after 5 is nothing"),
    "an answer elsewhere than expected": ([FIRST, replace(SECOND, expected=4)], "after 5"),
    "answered before what it follows began": ([at(b"", "a", 5.0), SECOND], "after 0 is nothing"),
    "a rewind was lost": (
        [FIRST, SECOND, rewound(5, 4.0), at(TWO, "c", 6.0)], "after 5 is nothing"),
    "a rewind was made twice": (
        [FIRST, SECOND, rewound(5, 4.0), at(ONE, "d", 6.0), at(ONE, "e", 8.0)],
        "but the session stood at 10"),
    "a rewind without an answer was made twice": (
        [FIRST, SECOND, maybe_rewound(5, 4.0), at(ONE, "d", 6.0), at(ONE, "e", 8.0)],
        "but the session stood at 10"),
    "a text went on where the rewind had cut off": (
        [FIRST, SECOND, rewound(5, 4.0), at(ONE, "d", 6.0), at(TWO, "c", 8.0)],
        repr(at(TWO, "c").text)),
    "rewound to where it never stood": ([FIRST, SECOND, rewound(7, 4.0, marks=())], "rewound to 7"),
    "rewound to where another branch stood": (
        [FIRST, SECOND, rewound(5, 4.0), at(ONE, "dd", 6.0), rewound(10, 8.0)], "rewound to 10"),
    "rewound further than marks are kept": (
        [FIRST, SECOND, THIRD, at(THREE, "d", 6.0), rewound(0, 8.0)], "rewound to 0"),
    "rewound with marks that it never had": (
        [FIRST, SECOND, rewound(5, 4.0, marks=(3, 5))], "rewound to 5 with marks (3, 5)"),
    "a request that was sent again got another text": (
        [FIRST, replace(SECOND, request=7),
         replace(SECOND, request=7, text="0000", started=4.0, ended=5.0)],
        "but the session stood at 10"),
    "a rewind came only later, another text was asked for earlier": (
        [FIRST, SECOND, at(ONE, "d", 4.0), rewound(5, 6.0),
         at(then(ONE, "d"), "e", 3.5, ended=9.0)],
        "but the session stood at 10"),
    "a rewind came only later": (
        [FIRST, SECOND, at(ONE, "d", 4.0), rewound(5, 6.0)], "the session stood at 10"),
    "went on after its end": ([FIRST, was_ended(2.0), at(ONE, "b", 4.0)], "had been ended"),
    "lost, but no fault may lose": ([FIRST, SECOND, at(ONE, "d")], "the session stood at 10"),
}  # fmt: skip
WRONG_WITH_LOSS = {
    "what was answered before was lost": ([FIRST, SECOND, at(ONE, "d")], "keeps 10 of 10"),
    "all was lost": ([FIRST, SECOND, at(b"", "d")], "keeps 10 of 10"),
    "two chains after it": (
        [FIRST, SECOND, THIRD, at(TWO, "d"), at(THREE, "e", 22.0)], "after 15 is nothing"),
    "both chains go on": (
        [FIRST, SECOND, THIRD, at(TWO, "d"), at(TWO, "e", 22.0)], "the session stood at 15"),
    "a rewind that was answered before was lost": (
        [FIRST, SECOND, rewound(5, 3.1, ended=3.4), at(TWO, "d")], "keeps 5 of 5"),
    "what was rewound before was lost only in part": (
        [FIRST, SECOND, THIRD, rewound(10, 6.0), at(TWO, "x", 7.0), at(TWO, "d"),
         at(then(TWO, "x"), "e", 22.0)], "after 15 is nothing"),
    "lost before the store was killed": (
        [FIRST, SECOND, THIRD, at(TWO, "x", 6.0), at(TWO, "d")], "the session stood at 15"),
}  # fmt: skip


@pytest.mark.parametrize("calls", TRUE.values(), ids=TRUE)
@pytest.mark.parametrize("losses", [(), (LOSS,)], ids=["kept", "may be lost"])
def test_what_can_be_true_is_not_found_wrong(calls: list[Call], losses: tuple[Loss, ...]) -> None:
    assert judged(calls, *losses) == []


@pytest.mark.parametrize("calls", TRUE_WITH_LOSS.values(), ids=TRUE_WITH_LOSS)
def test_what_a_declared_loss_can_lead_to_is_not_found_wrong(calls: list[Call]) -> None:
    assert judged(calls, LOSS) == []


def test_two_losses_without_an_answer_between_may_both_have_undone() -> None:
    later = Loss(since=12.0, killed=13.0, gone=14.0)
    assert judged([FIRST, SECOND, THIRD, at(TWO, "d")], LOSS, later) == []


class Forgetful(Letters):
    """Branches of a text meet: what follows depends on the position and the prompt alone."""

    def go_on(self, state: Hashable, prompt: str, length: int) -> Computed:
        assert isinstance(state, bytes)
        made = super().go_on(bytes(len(state)), prompt, length)
        return replace(made, state=bytes(len(state) + len(prompt) + length))


def test_branches_that_meet_keep_their_marks() -> None:
    text = Forgetful()

    def wrote(state: int, prompt: str, when: float) -> Call:
        return at(bytes(state), prompt, when, text=text.go_on(bytes(state), prompt, 4).text)

    first, second = wrote(0, "a", 0.0), wrote(5, "b", 2.0)
    branch = [rewound(0, 4.0), wrote(0, "aaaaaa", 6.0)]
    calls = [first, second, *branch, wrote(10, "c", 20.0), rewound(5, 22.0, marks=(0, 5))]
    assert Judge(text, calls, [LOSS], LEASE).judge(START, (), ()).wrong == []


def test_second_loss_may_undo_a_rewind_to_where_the_session_can_have_stood_before_it() -> None:
    later = Loss(since=22.0, killed=29.5, gone=30.0)
    calls = [FIRST, SECOND, THIRD, rewound(5, 6.0), at(ONE, "x", 8.0)]
    calls += [rewound(5, 25.0), at(THREE, "d", 40.0)]
    assert judged(calls, LOSS, later) == []
    (told,) = judged(calls, LOSS)
    assert "after 5 is nothing" in told


def test_second_loss_keeps_what_was_answered_since_the_first() -> None:
    later = Loss(since=25.0, killed=26.0, gone=27.0)
    (told,) = judged([FIRST, SECOND, THIRD, at(TWO, "d"), at(TWO, "e", 30.0)], LOSS, later)
    assert "keeps 15 of 15" in told


@pytest.mark.parametrize(("calls", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_true_is_found(calls: list[Call], told: str) -> None:
    (found,) = judged(calls)
    assert told in found


@pytest.mark.parametrize(("calls", "told"), WRONG_WITH_LOSS.values(), ids=WRONG_WITH_LOSS)
def test_what_no_declared_loss_can_lead_to_is_found(calls: list[Call], told: str) -> None:
    (found,) = judged(calls, LOSS)
    assert told in found


def test_what_a_loss_left_may_be_read_until_an_answer_tells_more() -> None:
    calls = [FIRST, SECOND, THIRD, rewound(5, 20.0), at(ONE, "dd", 22.0)]
    reads = (look(15, 12.0), look(10, 14.0))
    assert [judged(calls, LOSS, looks=(read,)) for read in reads] == [[], []]
    (told,) = judged(calls, LOSS, looks=(look(10, 24.0),))
    assert "was read at 10" in told


def test_lost_answers_are_counted() -> None:
    lost = (
        Judge(TEXT, [FIRST, SECOND, THIRD, at(TWO, "d")], [LOSS], LEASE).judge(START, (), ()).lost
    )
    assert lost == 1


@pytest.mark.parametrize(
    ("read", "is_wrong"),
    [(look(10, 5.0), False), (look(5, 2.5), False), (look(5, 3.5), True), (look(10, 0.5), True),
     (look(7, 5.0), True), (look(10, 20.0), False), (look(5, 20.0), True), (look(15, 9.5), False),
     (look(10, 5.0, (0, 5, 10)), False), (look(10, 5.0, (4, 10)), True)],
    ids=["newest", "while it changes", "older", "newer", "never", "after a loss", "not lost",
         "while the store is killed", "its marks", "other marks"],
)  # fmt: skip
def test_place_where_the_session_did_not_stand_then_is_found(read: Look, is_wrong: bool) -> None:
    found = judged([FIRST, SECOND, at(TWO, "c", 5.5)], LOSS, looks=(read,))
    assert bool(found) == is_wrong
    assert all(f"was read at {read.position}" in each for each in found)


def test_what_a_call_without_an_answer_made_may_be_read_until_it_is_rewound() -> None:
    calls = [FIRST, maybe("x", 2.0), rewound(5, 6.0), at(ONE, "b", 8.0)]
    assert judged(calls, looks=(look(10, 4.0),)) == []
    for read in (look(11, 4.0), look(10, 0.9), look(10, 4.0, (3, 10))):
        (found,) = judged(calls, looks=(read,))
        assert f"was read at {read.position}" in found


def test_reads_may_tell_in_which_order_a_text_and_a_rewind_were_made() -> None:
    calls = [FIRST, at(ONE, "b", 2.0, ended=3.1), rewound(5, 2.0), rewound(0, 6.0, marks=(0,))]
    for position in (5, 10):
        assert judged(calls, looks=(look(position, 4.0),)) == []
    for when in (0.5, 8.0):
        (found,) = judged(calls, looks=(look(10, when),))
        assert "was read at 10" in found


def test_what_a_rewind_without_an_answer_made_may_be_read_only_after_it_began() -> None:
    calls = [FIRST, SECOND, maybe_rewound(5, 6.0), rewound(5, 9.0), at(ONE, "d", 11.0)]
    assert judged(calls, looks=(look(5, 7.5),)) == []
    (found,) = judged(calls, looks=(look(5, 4.0),))
    assert "was read at 5" in found


def score(state: bytes, at: float) -> Look:
    return Look(session="s", started=at, ended=at + 1, text="xyz", scores=TEXT.score(state, "xyz"))


@pytest.mark.parametrize(
    ("read", "is_wrong"),
    [(score(TWO, 5.0), False), (score(ONE, 2.5), False), (score(ONE, 5.0), True),
     (score(THREE, 5.0), True), (score(then(TWO, "x"), 7.5), False),
     (score(then(TWO, "x"), 5.0), True),
     (score(then(then(TWO, "x"), "y"), 7.5), False), (score(then(ONE, "x"), 7.5), True)],
    ids=["newest", "while it changes", "older", "newer", "made without an answer",
         "only made later", "made by two without an answer", "never made"],
)  # fmt: skip
def test_score_after_a_text_that_was_not_there_then_is_found(read: Look, is_wrong: bool) -> None:
    calls = [FIRST, SECOND, maybe("x", 7.0), maybe("y", 7.0)]
    found = judged(calls, looks=(read,))
    assert bool(found) == is_wrong
    assert all("'xyz' was scored" in each for each in found)


def test_what_was_lost_may_have_been_read_before() -> None:
    calls = [FIRST, SECOND, THIRD, at(TWO, "dd")]
    assert judged(calls, LOSS, looks=(look(15, 6.0),)) == []
    (found,) = judged(calls, LOSS, looks=(look(15, 30.0),))
    assert "was read at 15" in found


def taken_over(seconds: float, when: float) -> Call:
    return maybe("x", when, ended=when + seconds, outcome=Outcome.TAKEN_OVER)


def test_request_that_is_taken_over_before_its_lease_can_end_is_found() -> None:
    find: Callable[[Call], list[str]] = lambda call: judged([FIRST, call], LOSS)  # noqa: E731
    assert find(taken_over(0.6, 2.0)) == []
    assert find(taken_over(0.4, 10.5)) == [], "the loss may have undone the lease"
    (told,) = find(taken_over(0.4, 2.0))
    assert "taken over after 0.400 s" in told
