"""The checker finds what cannot be true, and nothing else."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from tests.histories.calls import Call, Look, Loss, Outcome
from tests.histories.check import Judge
from tests.histories.oracle import Computed

LEASE = 0.5


class Letters:
    """Texts whose every letter depends on all that came before; a state is all of that."""

    start = b""

    def go_on(self, state: bytes, prompt: str, length: int) -> Computed:
        seed = hashlib.sha256(state + b"|" + prompt.encode()).hexdigest()
        text = (seed * (length // len(seed) + 1))[:length]
        return Computed(text=text, state=state + prompt.encode() + text.encode())


TEXT = Letters()
NUMBERS = count(100)


def done(state: bytes, prompt: str, at: float, **changes: object) -> tuple[Call, bytes]:
    """Answer four symbols at a state, within a second; gives the next state, too."""
    made = TEXT.go_on(state, prompt, 4)
    call = Call(
        session="s", started=at, ended=at + 1, prompt=prompt, length=4, outcome=Outcome.DONE,
        request=next(NUMBERS), position=len(made.state), text=made.text,
    )  # fmt: skip
    return replace(call, **changes), made.state  # type: ignore[arg-type]  # of mixed types


def maybe(prompt: str, at: float, **changes: object) -> Call:
    call, _ = done(b"", prompt, at)
    values = {"outcome": Outcome.MAYBE, "position": 0, "text": ""} | changes
    return replace(call, **values)  # type: ignore[arg-type]  # of mixed types


def after(state: bytes, prompt: str) -> bytes:
    return TEXT.go_on(state, prompt, 4).state


def look(position: int, at: float) -> Look:
    return Look(session="s", started=at, ended=at + 1, position=position)


def judged(calls: list[Call], *losses: Loss, looks: tuple[Look, ...] = ()) -> list[str]:
    return Judge(TEXT, calls, losses, LEASE).judge(looks).wrong


FIRST, ONE = done(b"", "a", 0.0)
SECOND, TWO = done(ONE, "b", 2.0)
THIRD, THREE = done(TWO, "c", 4.0)
LOSS = Loss(since=3.5, killed=10.0, gone=11.0)  # may undo the third, but not the second


def at(state: bytes, prompt: str, when: float = 20.0, **changes: object) -> Call:
    return done(state, prompt, when, **changes)[0]


TRUE = {
    "one chain": [FIRST, SECOND, THIRD],
    "two at once": [at(b"", "a", 1.0), at(ONE, "b", 0.5)],
    "a call without an answer made a step": [FIRST, maybe("x", 1.0), at(after(ONE, "x"), "b", 5.0)],
    "it made none": [FIRST, maybe("x", 1.0), SECOND],
    "two made steps, in another order": [
        FIRST, maybe("x", 1.0), maybe("y", 1.0), at(after(after(ONE, "y"), "x"), "b", 5.0)
    ],
    "a request was sent again and answered again": [
        FIRST, replace(SECOND, expected=5, request=7),
        replace(SECOND, expected=5, request=7, started=4.0, ended=5.0), at(TWO, "c", 6.0),
    ],
}  # fmt: skip
TRUE_WITH_LOSS = {
    "nothing was lost": [FIRST, SECOND, THIRD, at(THREE, "d")],
    "the third was lost": [FIRST, SECOND, THIRD, at(TWO, "d")],
    "nothing was asked for since": [FIRST, SECOND, THIRD],
    "a call without an answer was kept": [
        FIRST, SECOND, maybe("x", 3.0), at(after(TWO, "x"), "c", 4.0),
        at(after(TWO, "x"), "d"),
    ],
    "it went on from there as one chain": [
        FIRST, SECOND, THIRD, at(TWO, "d"), at(after(TWO, "d"), "e", 22.0)
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
        FIRST, SECOND, THIRD, at(TWO, "x", 9.0, ended=12.0), at(after(TWO, "x"), "e")
    ],
}  # fmt: skip
WRONG = {
    "other text": ([FIRST, replace(SECOND, text="0000")], "nothing that calls can have led to"),
    "two at one position": ([FIRST, SECOND, at(ONE, "x", 5.0)], "but the session stood at 10"),
    "the same twice": ([FIRST, SECOND, replace(SECOND, request=8)], "the session stood at 10"),
    "nobody wrote between": ([FIRST, at(after(ONE, "x"), "b", 5.0)], "after 5 is nothing"),
    "it began only later": (
        [FIRST, at(after(ONE, "x"), "b", 5.0), maybe("x", 7.0)], "after 5 is nothing"),
    "one request made two steps": (
        [FIRST, maybe("x", 1.0), at(after(after(ONE, "x"), "x"), "b", 5.0)], "after 5 is nothing"),
    "a request made a step elsewhere than expected": (
        [FIRST, maybe("x", 1.0, expected=0), at(after(ONE, "x"), "b", 5.0)], "after 5 is nothing"),
    "an answer elsewhere than expected": ([FIRST, replace(SECOND, expected=4)], "after 5"),
    "answered before what it follows began": ([at(b"", "a", 5.0), SECOND], "after 5 is nothing"),
    "lost, but no fault may lose": ([FIRST, SECOND, at(ONE, "d")], "the session stood at 10"),
}  # fmt: skip
WRONG_WITH_LOSS = {
    "what was answered before was lost": ([FIRST, SECOND, at(ONE, "d")], "keeps 10 of 10"),
    "all was lost": ([FIRST, SECOND, at(b"", "d")], "keeps 10 of 10"),
    "two chains after it": (
        [FIRST, SECOND, THIRD, at(TWO, "d"), at(THREE, "e", 22.0)], "after 15 is nothing"),
    "both chains go on": (
        [FIRST, SECOND, THIRD, at(TWO, "d"), at(TWO, "e", 22.0)], "the session stood at 15"),
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


def test_lost_answers_are_counted() -> None:
    lost = Judge(TEXT, [FIRST, SECOND, THIRD, at(TWO, "d")], [LOSS], LEASE).judge(()).lost
    assert lost == 1


@pytest.mark.parametrize(
    ("read", "is_wrong"),
    [(look(10, 5.0), False), (look(5, 2.5), False), (look(5, 3.5), True), (look(5, 20.0), False),
     (look(5, 9.5), False)],
    ids=["newest", "while it changes", "older", "after a loss", "while the store is killed"],
)  # fmt: skip
def test_position_older_than_an_answer_is_found(read: Look, is_wrong: bool) -> None:
    found = judged([FIRST, SECOND], LOSS, looks=(read,))
    assert bool(found) == is_wrong
    assert all("was read at 5 after it had stood at 10" in each for each in found)


def taken_over(seconds: float, when: float) -> Call:
    return maybe("x", when, ended=when + seconds, outcome=Outcome.TAKEN_OVER)


def test_request_that_is_taken_over_before_its_lease_can_end_is_found() -> None:
    find: Callable[[Call], list[str]] = lambda call: judged([FIRST, call], LOSS)  # noqa: E731
    assert find(taken_over(0.6, 2.0)) == []
    assert find(taken_over(0.4, 10.5)) == [], "the loss may have undone the lease"
    (told,) = find(taken_over(0.4, 2.0))
    assert "taken over after 0.400 s" in told
