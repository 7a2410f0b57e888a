"""The verdict says what the figures say, and the opposite where they are turned round."""

from dataclasses import replace

import numpy as np
import pytest

from report.curves import Course
from report.material import Texts
from report.measures.measurements import Measured, Measurements
from report.measures.memory import Memory
from report.measures.problems import Problems
from report.measures.surprise import run_away
from report.measures.texts import Share, TextMeasures, differ
from report.page.verdict import verdict
from report.subject import Subject
from training.data.corpus.corpus import Corpus
from training.settings import Cell, TrainingSettings

CELLS: tuple[Cell, ...] = ("rnn_tanh", "gru", "lstm")
RANDOM = np.random.default_rng(5)
NOISE = RANDOM.normal(0, 0.02, (16, 3))  # of 16 stretches


def a_share(value: float, error: float = 0.01) -> Share:
    return Share(value=value, error=error)


REAL = TextMeasures(words=a_share(0.97), repeats=a_share(0.01), closed=a_share(0.95), copy="x" * 30)
ALIKE = TextMeasures(words=a_share(0.8), repeats=a_share(0.02), closed=a_share(0.7), copy="x" * 25)
COURSE = Course(
    characters=np.array([100.0, 200]),
    seconds=np.array([1.0, 2]),
    loss=np.array([2.0, 1.5]),
    gradient_norm=np.array([0.5, 1.5]),
    validation_characters=np.array([100.0, 200]),
    validation_seconds=np.array([1.0, 2]),
    validation_loss=np.array([1.8, 1.5]),
    rollbacks=0,
    given_up=False,
    gradient_clip=1.0,
)


def decaying(factor: float) -> dict[str, np.ndarray]:
    """Norms of a gradient that each step back multiplies by a factor."""
    return {"h": factor ** np.arange(20.0)}


def a_model(
    cell: Cell, loss: float = 1.5, *, course: Course = COURSE, **changes: object
) -> Measured:
    subject = Subject(settings=TrainingSettings(cell=cell, minutes=1.0), course=course, moments=[])
    forgotten = Memory(symbol=np.zeros(9), prefix=np.array([np.nan, 1, 1, 1, 0, 0, 0, 0, 0]))
    model = Measured(
        subject=subject,
        nats=np.full((16, 3), loss),
        training_nats=np.full((16, 3), 1.48),
        samples=[],
        texts=[ALIKE] * 3,
        before=decaying(0.8),
        after=decaying(0.9),
        memory=forgotten,
        passage=np.zeros(3),
    )
    return replace(model, **changes)  # type: ignore[arg-type]


def three(*changes: dict[str, object]) -> list[Measured]:
    return [a_model(cell, **each) for cell, each in zip(CELLS, changes, strict=True)]  # type: ignore[arg-type]


def told(models: list[Measured], reference: TextMeasures = REAL) -> dict[str, list[str]]:
    """Return the verdict's cells by the name of their row."""
    corpus = Corpus.of(name="a", text="ab", sha256="")
    measurements = Measurements(
        texts=Texts(corpus=corpus, training="a", held_out="b"),
        models=models,
        reference=reference,
        passage="",
        coloured=[],
        missing=[],
        problems=Problems(
            by="", after=[], first="", written="", prompt="", continued="", truth="",
            by_position=np.zeros(2),
        ),
    )  # fmt: skip
    table = verdict(measurements)
    assert {len(row) for row in table.rows} == {len(table.header)}
    return {name: cells for name, *cells in table.rows}


def plain(texts: TextMeasures) -> dict[str, object]:
    return {"texts": [ALIKE, ALIKE, texts]}


def texts(**changes: Share | str | None) -> dict[str, object]:
    return plain(replace(ALIKE, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("losses", "best"), [((1.4, 1.5, 1.6), 0), ((1.6, 1.5, 1.4), 2)])
def test_lowest_loss_is_best_and_others_are_behind_by_the_difference(
    losses: tuple[float, ...], best: int
) -> None:
    rows = told([a_model(cell, loss) for cell, loss in zip(CELLS, losses, strict=True)])
    behind = rows["behind the best, nats"]
    assert behind[best] == "best"
    assert behind[1] == "0.100 ± 0.000"
    assert behind[2 - best] == "0.200 ± 0.000"
    assert rows["loss, nats a character"][best] == "1.400"
    assert rows["loss, bits a character"][best] == "2.020"


def test_a_difference_that_chance_makes_is_told_to_be_chance() -> None:
    models = three({"loss": 1.501}, {}, {"loss": 1.6})
    models[0] = replace(models[0], nats=models[0].nats + NOISE - NOISE.mean())
    behind = told(models)["behind the best, nats"]
    assert behind[0].startswith("0.001 ± 0.00")
    assert behind[0].endswith(", within chance")
    assert "chance" not in behind[2]


@pytest.mark.parametrize("better", [0, 1, 2])
def test_the_text_nearer_to_real_text_is_marked(better: int) -> None:
    changes: list[dict[str, object]] = [{}, {}, {}]
    changes[better] = texts(words=a_share(0.9))
    rows = told(three(*changes))
    assert [cell.endswith(" *") for cell in rows["words that exist"]] == [
        index == better for index in range(4)
    ]
    assert rows["words that exist"][better] == "90.0 % ± 1.0 *"
    assert not any("*" in cell for cell in rows["four-word runs repeated"])


def test_a_measure_beyond_real_text_is_no_merit() -> None:
    rows = told(three(texts(repeats=a_share(0.3)), {}, {}))
    assert [" *" in cell for cell in rows["four-word runs repeated"]] == [False, True, True, False]


def test_shares_within_chance_are_not_marked() -> None:
    rows = told(three(texts(words=a_share(0.82)), {}, {}))
    assert not any("*" in cell for cell in rows["words that exist"])


def test_what_cannot_be_counted_is_told() -> None:
    rows = told(three(texts(closed=None), {}, {}))
    shares = ["none", "70.0 % ± 1.0", "70.0 % ± 1.0", "95.0 % ± 1.0"]
    assert rows["quotation marks and brackets closed"] == shares
    rows = told(three({}, {}, texts(words=a_share(0.9))), replace(REAL, words=None))
    assert rows["words that exist"][2:] == ["90.0 % ± 1.0", "none"]


def test_reciting_is_told_by_the_longest_copy() -> None:
    rows = told(three(texts(copy="x" * 56), texts(copy="x" * 55), {}))
    assert rows["longest copy, characters"] == ["56, recited", "55", "25", "30"]


def test_trainings_differ_in_overfitting_their_best_and_their_gradients() -> None:
    early = replace(COURSE, validation_loss=np.array([1.5, 1.75]))
    rows = told(three({}, {"training_nats": np.full((16, 3), 1.2)}, {"course": early}))
    assert rows["unseen less training text, nats"][:3] == ["+0.020", "+0.300", "+0.020"]
    assert rows["best validation after, of its time"][:3] == ["100.0 %", "100.0 %", "50.0 %"]
    assert rows["validation loss risen since, nats"][:3] == ["+0.000", "+0.000", "+0.250"]
    assert rows["norm of the updates' gradients, median, 95 %"][0] == "1.00, 1.45"
    assert rows["updates whose gradient was cut"][0] == "50.0 %"


def test_memory_and_gradients_are_followed() -> None:
    endless = Memory(symbol=np.zeros(9), prefix=np.ones(9))
    both = decaying(0.9) | {"c": decaying(1.1)["h"]}
    rows = told(
        three(
            {"after": decaying(0.7)},
            {"memory": endless, "before": both, "after": both},
            {"after": {"h": np.zeros(20)}},
        )
    )
    assert rows["memory, characters"][:2] == ["4", "more than 200"]
    untrained = rows["gradient, factor a step back, untrained"]
    assert untrained[:3] == ["0.800", "h 0.900, c 1.100", "0.800"]
    trained = rows["gradient, factor a step back, trained"]
    assert trained[:3] == ["0.700", "h 0.900, c 1.100", "0"]
    left = rows["left of it after 50 steps"]
    assert left[:3] == ["1.8e-08, vanished", "1.2e+02, exploded", "0, vanished"]


def test_turning_the_models_round_turns_the_verdict_round() -> None:
    good: dict[str, object] = {
        "loss": 1.3, "training_nats": np.full((16, 3), 1.29), **texts(words=a_share(0.95)),
    }  # fmt: skip
    first, second = told(three(good, {}, {})), told(three({}, {}, good))
    for name, cells in first.items():
        assert second[name][:3] == cells[:3][::-1], name


def test_a_model_whose_state_ran_away_is_neither_best_nor_overfitted() -> None:
    models = three({"loss": 1.4}, {"loss": 1.3}, {"loss": 1.5})
    assert "stretches where its state ran away" not in told(models)
    models[1].nats[3] += 1.5
    rows = told(models)
    assert rows["behind the best, nats"][0] == "best"
    assert rows["stretches where its state ran away"] == ["0", "1 (1.300 nats without)", "0", ""]
    assert rows["unseen less training text, nats"][1] == "-0.180"


def test_a_difference_of_shares_is_measured_against_both_errors() -> None:
    assert differ(a_share(0.5, 0.03), a_share(0.61, 0.04))
    assert not differ(a_share(0.5, 0.03), a_share(0.59, 0.04))


def test_a_stretch_far_above_the_others_has_run_away() -> None:
    nats = np.full((5, 7), 1.3)
    nats[2] += 0.1
    assert not run_away(nats).any()
    nats[3, 4:] += 9.0
    assert run_away(nats).tolist() == [False, False, False, True, False]
