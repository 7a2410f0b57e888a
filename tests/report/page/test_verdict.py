"""The verdict says what the figures say, and the opposite where they are turned round."""

from dataclasses import replace

import numpy as np
import pytest

from report.measures.surprise import Difference, run_away
from report.measures.texts import Share, TextMeasures
from report.page.facts import Comparison, Facts, differ
from report.page.verdict import Section, listed, verdict


def a_share(value: float, error: float = 0.01) -> Share:
    return Share(value=value, error=error)


REAL = TextMeasures(words=a_share(0.97), repeats=a_share(0.01), closed=a_share(0.95), copy="x" * 30)
ALIKE = TextMeasures(words=a_share(0.8), repeats=a_share(0.02), closed=a_share(0.7), copy="x" * 25)


def a_model(title: str, **changes: object) -> Facts:
    facts = Facts(
        title=title,
        loss=1.5,
        training_loss=1.48,
        speed=10_000.0,
        characters=1e6,
        best_at=1.0,
        lowest=1.5,
        last=1.5,
        rollbacks=0,
        given_up=False,
        roughness=0.02,
        gradient_median=0.3,
        gradient_high=0.6,
        clipped=0.0,
        texts=ALIKE,
        memory=20,
        decay={"h": 0.9},
        decay_before={"h": 0.8},
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def told(models: list[Facts], *, error: float = 0.005) -> dict[str, str]:
    """Return the answers by question; errors of all differences of loss are the same."""
    differences = [[Difference(value=b.loss - a.loss, error=error) for b in models] for a in models]
    comparison = Comparison(
        models=models, differences=differences, reference=REAL, memory_reach=200
    )
    sections: list[Section] = verdict(comparison)
    keys = ("texts", "prediction", "copies", "trainings", "memory")
    return {key: " ".join(section.sentences) for key, section in zip(keys, sections, strict=True)}


@pytest.mark.parametrize(("losses", "best"), [((1.4, 1.5, 1.6), "A"), ((1.6, 1.5, 1.4), "C")])
def test_lowest_loss_predicts_best_and_others_are_behind_by_the_difference(
    losses: tuple[float, ...], best: str
) -> None:
    models = [a_model(title, loss=loss) for title, loss in zip("ABC", losses, strict=True)]
    text = told(models)["prediction"]
    assert f"The {best} predicts unseen text best: 1.400 nats a character (2.02 bits)." in text
    assert "The B is 0.100 ± 0.005 nats behind" in text
    last = "C" if best == "A" else "A"
    assert f"The {last} is 0.200 ± 0.005 nats behind" in text
    assert "18.1 % less probability" in text  # 1 - exp(-0.2)


def test_near_ties_are_called_ties() -> None:
    models = [a_model("A", loss=1.508), a_model("B", loss=1.5), a_model("C", loss=1.6)]
    text = told(models)["prediction"]
    assert text.startswith("The B and the A predict unseen text equally well")
    assert "difference of 0.008 ± 0.005 nats is within" in text
    assert "The C is 0.100" in text
    assert "predicts unseen text best" not in text
    sure = told(models, error=0.001)["prediction"]
    assert sure.startswith("The B predicts unseen text best")
    assert "The A is 0.008 ± 0.001 nats behind" in sure


def texts(**changes: Share | str | None) -> TextMeasures:
    return replace(ALIKE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("better", ["A", "B"])
def test_better_text_is_the_one_nearer_to_real_text(better: str) -> None:
    good, bad = texts(words=a_share(0.9)), ALIKE
    models = [a_model(title, texts=good if title == better else bad) for title in "AB"]
    text = told(models)["texts"]
    assert text.startswith(
        f"The {better} writes the better text: it is nearer to real text in words"
    )
    assert f"{better} 90.0 %" in text
    assert "four-word runs repeated" not in text.split(".")[0]


def test_a_measure_beyond_real_text_is_no_merit() -> None:
    models = [
        a_model("A", texts=texts(repeats=a_share(0.3))),
        a_model("B", texts=texts(repeats=a_share(0.02))),
    ]
    assert told(models)["texts"].startswith("The B writes the better text")


def test_no_text_is_better_within_chance_or_where_each_leads_in_something() -> None:
    near = [
        a_model("A", texts=texts(words=a_share(0.82))),
        a_model("B", texts=texts(words=a_share(0.80))),
    ]
    alike = told(near)["texts"]
    assert alike.startswith("No text is measurably better")
    assert "no two of them differ measurably" in alike
    mixed = [
        a_model("A", texts=texts(words=a_share(0.9))),
        a_model("B", texts=texts(closed=a_share(0.9))),
    ]
    assert told(mixed)["texts"].startswith("No text is better on the whole: the A and the B lead")


def test_two_of_three_may_write_equally_good_texts() -> None:
    good = texts(words=a_share(0.9))
    models = [a_model("A", texts=good), a_model("B"), a_model("C", texts=good)]
    text = told(models)["texts"]
    assert text.startswith(
        "The A and the C write equally good texts on the whole, better ones than"
    )
    assert "better ones than the B." in text


def test_what_cannot_be_counted_is_told() -> None:
    models = [a_model("A", texts=texts(closed=None)), a_model("B", texts=texts(closed=None))]
    assert "Quotation marks and brackets closed: there are none to count." in told(models)["texts"]
    one = [a_model("A", texts=texts(closed=None)), a_model("B")]
    assert "A none to count, B 70.0 %" in told(one)["texts"]


def test_reciting_is_told_by_the_longest_copy() -> None:
    models = [a_model("A", texts=texts(copy="x" * 56)), a_model("B")]
    text = told(models)["copies"]
    assert text.startswith("The A recited: its longest copy")
    assert "56 (A) and 25 (B)" in text
    both = told([replace(model, texts=texts(copy="x" * 60)) for model in models])["copies"]
    assert both.startswith("The A and the B recited: their")
    chance = told([a_model("A", texts=texts(copy="x" * 55)), a_model("B")])["copies"]
    assert chance.startswith("None recited")


def test_trainings_differ_in_speed_overfitting_and_explosions() -> None:
    models = [
        a_model("A", speed=30_000.0, rollbacks=2, gradient_high=9.0, clipped=0.25),
        a_model("B", training_loss=1.2, best_at=0.4, lowest=1.5, last=1.75, roughness=0.08),
    ]
    text = told(models)["trainings"]
    assert text.startswith("The A read fastest, 3.0 times as fast as the B.")
    assert "+0.300 (B) and +0.020 (A); the B knows the training text better" in text
    assert "The B was at its best after 40.0 % of its time" in text
    assert "risen by 0.250 nats" in text
    assert "A twice" in text
    assert "given up" not in text
    assert "0.30 and 9.00 (A, 25.0 % cut)" in text
    assert "the loss of the B jumped most from update to update, by 0.080 nats" in text


def test_a_training_that_was_given_up_is_told() -> None:
    models = [a_model("A", rollbacks=3, given_up=True), a_model("B", rollbacks=1)]
    text = told(models)["trainings"]
    assert "A 3 times and B once. That of the A then exploded again and was given up" in text
    assert "That of the B" not in text


def test_trainings_that_do_not_differ_are_called_alike() -> None:
    text = told([a_model("A"), a_model("B", speed=10_500.0)])["trainings"]
    assert text.startswith("All read about equally fast.")
    assert "none overfits" in text
    assert "Each was at its best" in text
    assert "None exploded." in text
    assert "their losses jumped alike" in text


def test_memory_is_compared_and_gradients_are_followed() -> None:
    models = [
        a_model("A", memory=10, decay={"h": 0.7}),
        a_model("B", memory=None, decay={"h": 0.9, "c": 1.1}, decay_before={"h": 0.5, "c": 0.99}),
    ]
    text = told(models)["memory"]
    assert text.startswith("The B remembers longest.")
    assert "more than 200 (B) and 10 (A)" in text
    assert "by 0.800 before training and by 0.700 after; it vanishes: 2e-08 of it" in text
    assert "by 0.500 before training and by 0.900 after through h and by 0.990" in text
    assert "it explodes, 117-fold in 50 steps" in text
    alike = told([a_model("A", memory=20), a_model("B", memory=21, decay={"h": None})])["memory"]
    assert alike.startswith("All remember about equally far.")
    assert "by 0 after; it vanishes at once" in alike


def test_turning_the_figures_round_turns_the_verdict_round() -> None:
    good = {
        "loss": 1.3, "training_loss": 1.29, "speed": 30_000.0, "memory": 90,
        "texts": texts(words=a_share(0.95)),
    }  # fmt: skip
    first = told([a_model("A", **good), a_model("B")])
    second = told([a_model("A"), a_model("B", **good)])
    leads = {key: text.split(".")[0] for key, text in first.items() if key != "copies"}
    for key, lead in leads.items():
        swapped = lead.translate(str.maketrans("AB", "BA"))
        swapped = swapped.replace("Bll", "All").replace("Aits", "Bits")
        assert second[key].split(".")[0] == swapped, key


def test_a_difference_of_shares_is_measured_against_both_errors() -> None:
    assert differ(a_share(0.5, 0.03), a_share(0.61, 0.04))
    assert not differ(a_share(0.5, 0.03), a_share(0.59, 0.04))
    assert not differ(None, a_share(0.5))


def test_lists_read_as_one_writes_them() -> None:
    assert [listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_a_model_whose_state_ran_away_is_neither_alike_nor_overfitted() -> None:
    models = [
        a_model("A", loss=1.4, training_loss=1.39),
        a_model("B", loss=2.2, training_loss=1.41, calm_loss=1.42, runaways=1),
        a_model("C", loss=1.5),
    ]
    answers = told(models, error=0.6)
    assert "the B predict" not in answers["prediction"]
    assert "B lost its way in 1 of the stretches" in answers["prediction"]
    assert (
        "2.200 nats a character (3.17 bits) with them, 1.420 nats without"
        in (answers["prediction"])
    )
    assert "+0.010 (B)" in answers["trainings"]
    assert "none overfits" in answers["trainings"]
    assert "lost its way" not in told([a_model("A"), a_model("C")])["prediction"]


def test_a_stretch_far_above_the_others_has_run_away() -> None:
    nats = np.full((5, 7), 1.3)
    nats[2] += 0.1
    assert not run_away(nats).any()
    nats[3, 4:] += 9.0
    assert run_away(nats).tolist() == [False, False, False, True, False]
