"""The likeliest symbols along a text: what the loop itself uses, whoever asks beside whom."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from serving.runtime.decoder import FREE, Decoder
from serving.runtime.likeliest import Likeliest
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.before import without_graphs
from tests.conftest import TINY_SYMBOLS
from tests.serving.runtime.runs import (
    FILTERED,
    PLAIN,
    assert_same_bits,
    random_run,
    rows_of,
    state_rows,
)
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import DECODE_CONSTRAINED, DECODE_FULL

V = len(TINY_SYMBOLS)
ROWS = 11
STEPS = 17
ALL = np.arange(ROWS)


@pytest.fixture(params=CELLS)
def decoder(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> Decoder:
    """A decoder of each cell."""
    return Decoder(load_bundle(tiny_bundles[request.param]), Device.CPU)


def sampling() -> list[SamplingParams]:
    """Parameters of every kind, for each row."""
    return [(PLAIN + FILTERED)[row % len(PLAIN + FILTERED)] for row in range(ROWS)]


def assert_same(one: Likeliest, other: Likeliest) -> None:
    """Compare bit for bit."""
    assert_array_equal(one.ids, other.ids)
    assert_array_equal(one.log_probs, other.log_probs)


def test_a_text_is_the_same_with_alternatives_and_without(decoder: Decoder) -> None:
    for rows in (ALL, ALL[:1], ALL[3:8:2]):
        call, state = random_run(decoder, V, STEPS, sampling())
        asked = replace(call, asking=rows, alternatives=4)
        assert_same_bits(decoder.run(call, state), decoder.run(asked, state))


def test_the_log_probability_of_a_symbol_is_that_of_its_alternative(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, STEPS, sampling())
    result = decoder.run(replace(call, asking=ALL, alternatives=V), state)
    for row, found in enumerate(result.likeliest):
        assert_array_equal(np.sort(found.ids), np.tile(np.arange(V), (STEPS, 1)))
        place = np.nonzero(found.ids == result.tokens[:, row, None])
        assert_array_equal(found.log_probs[place], result.log_probs[:, row])
        assert (np.diff(found.log_probs) <= 0).all()
        np.testing.assert_allclose(np.exp(found.log_probs).sum(1), 1, rtol=1e-5)


def test_greedy_takes_the_first_alternative(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, 200, [SamplingParams(temperature=0)] * 3)
    call = replace(call, forced=np.full((200, 3), FREE), asking=np.arange(3), alternatives=1)
    result = decoder.run(call, state)
    for row, found in enumerate(result.likeliest):
        assert_array_equal(found.ids[:, 0], result.tokens[:, row])


def test_fewer_alternatives_are_the_first_of_more(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, STEPS, sampling())
    whole = decoder.run(replace(call, asking=ALL, alternatives=V), state).likeliest
    for count in range(1, V):
        some = decoder.run(replace(call, asking=ALL, alternatives=count), state).likeliest
        for found, every in zip(some, whole, strict=True):
            cut = Likeliest(every.ids[:, :count], every.log_probs[:, :count])
            assert_same(found, cut)


def test_alternatives_of_a_row_in_a_batch_are_those_of_the_row_alone(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, STEPS, sampling())
    together = decoder.run(replace(call, asking=ALL[::2], alternatives=5), state)
    for row, found in zip(ALL[::2], together.likeliest, strict=True):
        alone = replace(rows_of(call, [row]), asking=np.zeros(1, np.int64), alternatives=5)
        assert_same(found, decoder.run(alone, state_rows(state, [row])).likeliest[0])


def test_bundle_of_before_runs_without_alternatives(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    old = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "old"))
    without_graphs(old, DECODE_CONSTRAINED, DECODE_FULL)
    before, now = (
        Decoder(load_bundle(folder), Device.CPU) for folder in (old, tiny_bundles["gru"])
    )
    assert (before.is_full, now.is_full) == (False, True)
    call, state = random_run(now, V, STEPS, sampling())
    assert_same_bits(before.run(call, state), now.run(call, state))
    assert (
        load_bundle(old).manifest.fingerprint
        == load_bundle(tiny_bundles["gru"]).manifest.fingerprint
    )
