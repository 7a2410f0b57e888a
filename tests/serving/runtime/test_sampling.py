"""Random numbers are a pure function of seed and position; parameters stay in their ranges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.runtime.sampling import SamplingParams, uniforms
from unroll.errors import InputError
from unroll.terms import SEED_LIMIT

WORD = 2**64
# philox4x64 10: counter, key, result, from Random123's kat_vectors.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (WORD - 1, WORD - 1, WORD - 1, WORD - 1),
        (WORD - 1, WORD - 1),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]
seeds = st.integers(0, SEED_LIMIT - 1)
positions = st.integers(0, 2**62 - 1)


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Compute a block of Philox4x64-10 as the paper's section 3.3 states it."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        high_a, low_a = divmod(a * 0xD2E7470EE14C6C93, WORD)
        high_c, low_c = divmod(c * 0xCA5A826395121157, WORD)
        a, b, c, d = high_c ^ b ^ k, low_c, high_a ^ d ^ m, low_a
        k, m = (k + 0x9E3779B97F4A7C15) % WORD, (m + 0xBB67AE8584CAA73B) % WORD
    return a, b, c, d


def number(seed: int, position: int) -> float:
    """Compute the random number of a position by the documented rule."""
    word = philox((position // 4, 0, 0, 0), (seed, 0))[position % 4]
    return (word >> 40) * 2.0**-24


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_philox_of_these_tests_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], result: tuple[int, ...]
) -> None:
    assert philox(counter, key) == result


def test_first_numbers_of_seed_zero_are_the_known_answer() -> None:
    _, _, words = KNOWN_ANSWERS[0]
    assert uniforms(0, 0, 4).tolist() == [(word >> 40) / 2**24 for word in words]


@given(seeds, positions)
def test_number_follows_the_documented_rule(seed: int, position: int) -> None:
    assert uniforms(seed, position, 5).tolist() == [number(seed, position + i) for i in range(5)]


@given(seeds, positions, st.lists(st.integers(0, 300), max_size=6))
def test_any_cut_of_a_range_equals_the_range(seed: int, position: int, cuts: list[int]) -> None:
    whole = uniforms(seed, position, sum(cuts))
    begins = np.cumsum([0, *cuts])[:-1]
    parts = [
        uniforms(seed, position + int(begin), count)
        for begin, count in zip(begins, cuts, strict=True)
    ]
    assert whole.shape == (sum(cuts),)
    np.testing.assert_array_equal(np.concatenate([*parts, whole[:0]]), whole)


def test_numbers_are_float32_multiples_of_a_24_bit_step_below_one() -> None:
    drawn = uniforms(20260712, 0, 1_000_000)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1 - 2.0**-24
    steps = drawn.astype(np.float64) * 2**24
    np.testing.assert_array_equal(steps, np.round(steps))
    # The mean of a million such numbers has a standard deviation of 2.9e-4: five of them.
    assert abs(float(drawn.mean(dtype=np.float64)) - 0.5) < 1.45e-3


def test_numbers_of_other_seeds_and_positions_differ() -> None:
    sets = [uniforms(seed, position, 64) for seed in (0, 1, 2**62) for position in (0, 64, 2**40)]
    assert len({numbers.tobytes() for numbers in sets}) == len(sets)


def test_numbers_cannot_be_changed_by_who_got_them() -> None:
    with pytest.raises(ValueError, match="read-only"):
        uniforms(3, 0, 4)[0] = 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("temperature", value) for value in (-1.0, 9e-4, 1001.0, math.inf, -math.inf, math.nan)),
        ("top_k", -1),
        *(("top_p", value) for value in (0.0, -0.5, 1.01, math.inf, math.nan)),
        *(("min_p", value) for value in (-0.01, 1.01, math.inf, math.nan)),
    ],
)
def test_parameter_out_of_its_range_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{field}: .*{value:g}") as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"temperature": 1e-3},
        {"temperature": 1e3},
        {"top_k": 0},
        {"top_k": 10**6},
        {"top_p": 1e-9},
        {"top_p": 1.0},
        {"min_p": 0.0},
        {"min_p": 1.0},
    ],
)
def test_end_of_each_range_is_allowed(values: dict[str, float]) -> None:
    params = SamplingParams(**values)  # type: ignore[arg-type]
    assert [getattr(params, name) for name in values] == list(values.values())
