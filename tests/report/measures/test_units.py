"""The finder of units finds what was planted, and does not boast of chance."""

import numpy as np
import pytest
import torch

from report.measures import units
from report.measures.traits import (
    TRAITS,
    Trait,
    in_capitalised_word,
    inside_brackets,
    inside_quotes,
    line_position,
    word_position,
)
from report.measures.units import Activations, activations, auc, find_unit
from tests.report.models import V, a_model

TEXT = 'He "said (no) more" then.\n\n"Open\n\nShut.'
STRETCH = 'A "quoted" word, and Many others; ' * 60
QUOTES, NUMBER = TRAITS[0], TRAITS[3]


def as_bits(values: np.ndarray) -> str:
    return "".join("-" if np.isnan(v) else str(int(v)) for v in values)


def test_traits_of_a_text_are_those_that_one_sees() -> None:
    assert as_bits(inside_quotes(TEXT)) == "000" + "1" * 15 + "0" * 9 + "1" * 6 + "0" * 6
    assert as_bits(inside_brackets(TEXT)) == "0" * 9 + "111" + "0" * (len(TEXT) - 12)
    assert as_bits(in_capitalised_word("Of my X men Ann")) == "-1--0----00--11"
    assert as_bits(line_position("ab\nc\n\nde")) == "12010012"
    assert as_bits(word_position("ab, c4d")) == "1200101"
    assert line_position("x" * 300)[-1] == 100


def test_a_blank_line_of_spaces_ends_what_was_open_and_curly_marks_count() -> None:
    assert inside_quotes("“a” b")[:5].tolist() == [1, 1, 0, 0, 0]
    assert inside_quotes('"a\n \nb')[-1] == 0
    assert inside_brackets("((a) b)").tolist() == [1, 1, 1, 1, 1, 1, 0]


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    holds = np.array([True, True, False, False, False])
    units = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    # Of six pairs, the first unit has five in order and one alike; the second all alike.
    assert auc(holds, units).tolist() == [5.5 / 6, 0.5]


def planted(text: str, trait: Trait, unit: int, *, sign: float, seed: int) -> Activations:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(text), 7)).astype(np.float32)
    signal = np.nan_to_num(trait.of(text))
    values[:, unit] = sign * signal + 0.1 * rng.normal(size=len(text))
    names = [f"unit {i}" for i in range(7)]
    return Activations(values=values, places=np.arange(len(text)), names=names)


@pytest.mark.parametrize("trait", [QUOTES, NUMBER], ids=["holds or not", "number"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_planted_unit_is_found_with_its_direction(trait: Trait, sign: float) -> None:
    found = find_unit(
        trait,
        planted(STRETCH, trait, 4, sign=sign, seed=1),
        STRETCH,
        planted(STRETCH, trait, 4, sign=sign, seed=2),
        STRETCH,
    )
    assert found is not None
    assert (found.unit, found.name, found.sign) == (4, "unit 4", sign)
    assert found.score > 0.98


@pytest.mark.parametrize("trait", [QUOTES, NUMBER], ids=["holds or not", "number"])
def test_score_is_that_of_the_other_stretch_not_of_the_one_it_was_chosen_on(trait: Trait) -> None:
    found = find_unit(
        trait,
        planted(STRETCH, trait, 4, sign=1.0, seed=1),
        STRETCH,
        planted(STRETCH, trait, 5, sign=1.0, seed=2),  # unit 4 is noise there
        STRETCH,
    )
    assert found is not None
    assert found.chosen > 0.98
    assert found.score < 0.6


def test_a_unit_that_turns_round_scores_below_chance() -> None:
    choose = planted(STRETCH, QUOTES, 4, sign=1.0, seed=1)
    judge = planted(STRETCH, QUOTES, 4, sign=-1.0, seed=2)
    found = find_unit(QUOTES, choose, STRETCH, judge, STRETCH)
    assert found is not None
    assert found.score < 0.02


def test_a_trait_that_is_too_rare_has_no_unit() -> None:
    plain = "no marks here, none at all; " * 60
    here = planted(plain, QUOTES, 4, sign=1.0, seed=1)
    assert find_unit(QUOTES, here, plain, here, plain) is None


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_activations_are_the_states_after_each_symbol(cell: str) -> None:
    model = a_model(cell, layers=2, hidden=3)  # type: ignore[arg-type]
    ids = torch.randint(V, (23,), generator=torch.Generator().manual_seed(1))
    recorded = activations(model, ids, streams=2, warm_up=4)
    T = 11
    assert recorded.places.tolist() == [*range(4, T), *range(T + 4, 2 * T)]
    with torch.no_grad():
        _, state = model(ids[T : T + 7, None], model.zero_state(1))  # second stream, 7 symbols
    row = recorded.places.tolist().index(T + 6)
    expected = torch.cat([tensor[:, 0].flatten() for tensor in state.values()])
    assert np.allclose(recorded.values[row], expected.numpy(), atol=1e-6)
    unit = recorded.names.index(f"{[*state][-1]}, layer 2, unit 1")
    assert recorded.values[row, unit] == pytest.approx(float([*state.values()][-1][1, 0, 1]))


def test_a_prediction_worse_than_the_mean_explains_nothing() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert units._r_squared(values, values) == 1.0
    assert units._r_squared(values, 10 * values) == 0.0
