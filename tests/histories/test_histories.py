"""Servers over one Redis keep to what they acknowledged; and the checker would see it if not."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.histories.check import Call, Look, Outcome, violations
from tests.histories.history import make_history
from training.settings import Cell

TRUTH = "abcdefghijklmnopqrstuvwxyz"


def done(begins: int, position: int, at: float, **changes: object) -> Call:
    text = TRUTH[begins:position]
    call = Call(
        session="s", started=at, ended=at + 1, length=position - begins, outcome=Outcome.DONE,
        position=position, text=text,
    )  # fmt: skip
    return replace(call, **changes)  # type: ignore[arg-type]  # of mixed types


def maybe(length: int, at: float) -> Call:
    return Call(session="s", started=at, ended=at + 1, length=length, outcome=Outcome.MAYBE)


def look(position: int, at: float) -> Look:
    return Look(session="s", started=at, ended=at + 1, position=position)


def test_chain_with_repeated_and_lost_answers_is_true() -> None:
    again = done(5, 8, 4.0, expected=5)
    calls = [done(0, 5, 0.0), done(5, 8, 2.0, expected=5), again, maybe(4, 5.0), done(12, 13, 6.0)]
    looks = [look(5, 1.5), look(8, 2.0), look(13, 9.0)]
    assert list(violations("s", TRUTH, calls, looks, 13)) == []
    assert list(violations("s", TRUTH, [*calls, maybe(2, 8.0)], looks, 15)) == []


@pytest.mark.parametrize(
    ("calls", "looks", "last", "told"),
    [
        ([done(0, 5, 0.0, text="abcdX")], [], 5, "text at 0 is 'abcdX'"),
        ([done(0, 5, 0.0), done(0, 3, 0.0)], [], 5, "were both answered"),
        ([done(0, 5, 0.0), done(0, 5, 2.0)], [], 5, "were both answered"),
        ([done(0, 5, 0.0), done(3, 9, 2.0)], [], 9, "were both answered"),
        ([done(0, 5, 0.0), done(7, 9, 2.0)], [], 9, "nobody wrote from 5 to 7"),
        ([done(0, 5, 0.0), maybe(3, 1.0), done(7, 9, 2.0)], [], 9, "nobody wrote from 5 to 7"),
        ([done(0, 5, 5.0), done(5, 9, 2.0)], [], 9, "before 0 was asked for"),
        ([done(0, 5, 0.0)], [], 0, "stands at 0 in the end, was answered up to 5"),
        ([done(0, 5, 0.0)], [], 7, "stands at 7 in the end"),
        ([done(0, 5, 0.0)], [look(0, 3.0)], 5, "was read at 0 after it had stood at 5"),
    ],
)
def test_what_cannot_be_true_is_found(
    calls: list[Call], looks: list[Look], last: int, told: str
) -> None:
    assert any(told in found for found in violations("s", TRUTH, calls, looks, last))


@pytest.mark.slow
def test_short_history_is_true(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    history = make_history(tiny_bundles["lstm"], tmp_path, 5.0, seed=3)
    assert history.wrong == []
    assert history.faults > 0
    assert history.counts()["calls done"] > 20


@pytest.mark.slow
def test_servers_that_check_neither_lease_nor_tag_are_found_out(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    history = make_history(
        tiny_bundles["gru"], tmp_path, 60.0, planted="unsafe", stop_at_first=True
    )
    assert any("were both answered" in wrong for wrong in history.wrong)
