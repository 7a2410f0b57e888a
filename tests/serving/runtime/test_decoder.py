"""Determinism: a row's text is its own, whoever shares the batch and however runs are cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.runtime.decoder import Decoder, LoopResult
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
from tests.serving.runtime.runs import (
    BATCHES,
    FILTERED,
    PLAIN,
    Index,
    assert_same_bits,
    joined_rows,
    random_run,
    result_rows,
    rows_of,
    run_in_cuts,
    state_rows,
)
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import DECODE
from unroll.errors import BundleError

V = len(TINY_SYMBOLS)
MOST_ROWS = 130  # past the 128 of the benchmarks, and no multiple of a vector's width
SIZES = [(cell, hidden) for cell in CELLS for hidden in (7, 37, 64)] + [("gru", 256)]


def mixed(params: tuple[SamplingParams, ...], rows: int) -> list[SamplingParams]:
    """Deal parameters out to rows."""
    return [params[row % len(params)] for row in range(rows)]


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}-{size[1]}")
def sized_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle of each cell and size."""
    cell, hidden = request.param
    folder = tmp_path_factory.mktemp("sized") / cell
    return export_briefly(tiny_checkpoint(cell, hidden_size=hidden, layers=2), folder)


@pytest.fixture(params=CELLS)
def decoder(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> Decoder:
    """A decoder of each cell."""
    return Decoder(load_bundle(tiny_bundles[request.param]), Device.CPU)


@pytest.mark.slow
@pytest.mark.parametrize("params", [PLAIN, PLAIN + FILTERED], ids=["plain", "filtered"])
def test_row_in_a_batch_equals_row_alone(
    sized_bundle: Bundle, params: tuple[SamplingParams, ...]
) -> None:
    decoder = Decoder(sized_bundle, Device.CPU)
    call, state = random_run(decoder, V, 3, mixed(params, MOST_ROWS))

    def run(rows: Index) -> LoopResult:
        return decoder.run(rows_of(call, rows), state_rows(state, rows))

    alone = joined_rows([run([row]) for row in range(MOST_ROWS)])
    order = np.random.default_rng(3).permutation(MOST_ROWS)
    for size in BATCHES:
        rows = np.roll(order, size)[:size]
        assert_same_bits(run(rows), result_rows(alone, rows))


@pytest.mark.slow
def test_two_threads_give_the_bits_of_one(sized_bundle: Bundle) -> None:
    one, two = (Decoder(sized_bundle, Device.CPU, threads) for threads in (1, 2))
    for rows in (1, 16, MOST_ROWS):
        call, state = random_run(one, V, 9, mixed(PLAIN + FILTERED, rows))
        assert_same_bits(one.run(call, state), two.run(call, state))


@pytest.fixture(scope="module")
def decoders(tiny_bundles: dict[Cell, Path]) -> dict[Cell, Decoder]:
    return {cell: Decoder(load_bundle(path), Device.CPU) for cell, path in tiny_bundles.items()}


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_calls_cut_anywhere_equal_the_whole(
    decoders: dict[Cell, Decoder], data: st.DataObject
) -> None:
    T, N = 12, 5
    decoder = decoders[data.draw(st.sampled_from(CELLS))]
    params = st.lists(st.sampled_from(PLAIN + FILTERED), min_size=N, max_size=N)
    call, state = random_run(decoder, V, T, data.draw(params))
    call = replace(
        call, steps=np.array(data.draw(st.lists(st.integers(0, T + 3), min_size=N, max_size=N)))
    )
    cuts = data.draw(st.lists(st.integers(1, T), max_size=T))
    assert_same_bits(decoder.run(call, state), run_in_cuts(decoder, call, state, cuts))


def test_row_keeps_its_state_after_its_steps(decoder: Decoder) -> None:
    T = 9
    call, state = random_run(decoder, V, T, mixed(PLAIN + FILTERED, T + 1))
    result = decoder.run(replace(call, steps=np.arange(T + 1)), state)
    for row in range(T + 1):
        short = rows_of(call, [row])
        before = expected = state_rows(state, [row])
        if row:
            short = replace(short, forced=short.forced[:row], uniform=short.uniform[:row])
            expected = decoder.run(short, before).state
        for name, tensor in expected.items():
            np.testing.assert_array_equal(result.state[name][:, [row]], tensor, err_msg=name)


def test_forced_symbols_come_out_and_free_ones_are_in_the_vocabulary(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, 7, mixed(PLAIN + FILTERED, 13))
    tokens = decoder.run(call, state).tokens
    is_free = call.forced < 0
    np.testing.assert_array_equal(tokens[~is_free], call.forced[~is_free])
    assert ((tokens[is_free] >= 0) & (tokens[is_free] < V)).all()
    assert len(np.unique(tokens[is_free])) > V // 2


def test_log_probability_knows_nothing_of_sampling_parameters(decoder: Decoder) -> None:
    T, N = 7, 13
    free, state = random_run(decoder, V, T, mixed(PLAIN + FILTERED, N))
    written = decoder.run(free, state)
    plain, _ = random_run(decoder, V, T, mixed((SamplingParams(),), N))
    read = decoder.run(replace(plain, forced=written.tokens), state)
    assert_same_bits(written, read)


@pytest.mark.parametrize(
    "keeps_all",
    [
        SamplingParams(top_k=V),
        SamplingParams(top_k=V + 1000),
        SamplingParams(min_p=1e-30),
        SamplingParams(top_k=V, top_p=1, min_p=1e-30),
    ],
)
def test_filter_that_keeps_all_changes_no_bit(decoder: Decoder, keeps_all: SamplingParams) -> None:
    T, N = 100, 6
    plain, state = random_run(decoder, V, T, mixed((SamplingParams(),), N))
    filtered, _ = random_run(decoder, V, T, mixed((keeps_all,), N))
    assert_same_bits(decoder.run(plain, state), decoder.run(filtered, state))


def test_graph_other_than_the_manifest_says_is_refused(tiny_bundles: dict[Cell, Path]) -> None:
    gru, lstm = (load_bundle(tiny_bundles[cell]) for cell in ("gru", "lstm"))
    for described in ("inputs", "outputs"):
        spec = replace(
            gru.manifest.graphs[DECODE],
            **{described: getattr(lstm.manifest.graphs[DECODE], described)},
        )
        manifest = replace(gru.manifest, graphs=gru.manifest.graphs | {DECODE: spec})
        with pytest.raises(BundleError, match=f"its {described} are"):
            Decoder(replace(gru, manifest=manifest), Device.CPU)
