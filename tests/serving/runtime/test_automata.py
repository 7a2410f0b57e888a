"""The loop follows automata: only what they allow is drawn, in the model's proportions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from export.graph.arithmetic import Precision
from serving.runtime.decoder import FREE, Automata, Decoder, LoopResult, LoopRun
from serving.runtime.onnx import Device
from tests.conftest import TINY_SYMBOLS
from tests.export.lower import compiled
from tests.serving.runtime.runs import (
    BATCHES,
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

V = len(TINY_SYMBOLS)
ROWS, STEPS, STATES = 130, 5, 9
TIE = 1e-4  # of a cumulative probability, within which rounding decides


def tables(rows: int, seed: int = 0) -> Automata:
    """Make random tables: some symbols banned, some favoured; state 0 allows all."""
    random = np.random.default_rng(seed)
    bias = random.normal(0, 2, (STATES, V)).astype(np.float32)
    bias[random.random((STATES, V)) < 0.5] = -np.inf
    bias[:, 3] = np.where(np.isinf(bias).all(1), 0, bias[:, 3])
    bias[0] = 0
    after = random.integers(1, STATES, (STATES, V))
    after[0] = 0
    return Automata(bias=bias, next=after.ravel(), states=random.integers(0, STATES, rows))


def some(automata: Automata, rows: np.ndarray) -> Automata:
    return replace(automata, states=automata.states[rows])


def followed(automata: Automata, run: LoopRun, result: LoopResult) -> None:
    """Check every state and that each symbol which was drawn is allowed."""
    assert result.automata is not None
    state = automata.states
    for forced, tokens, states in zip(run.forced, result.tokens, result.automata, strict=True):
        is_free = forced == FREE
        assert np.isfinite(automata.bias[state, tokens])[is_free].all()
        state = np.where(is_free, automata.next.reshape(STATES, V)[state, tokens], state)
        assert_array_equal(states, state)


def sampling() -> list:  # type: ignore[type-arg]
    return [(PLAIN + FILTERED)[row % len(PLAIN + FILTERED)] for row in range(ROWS)]


@pytest.fixture(params=CELLS)
def decoder(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> Decoder:
    """A decoder of each cell."""
    return Decoder(load_bundle(tiny_bundles[request.param]), Device.CPU)


def check_row_alone(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, STEPS, sampling())
    automata = tables(ROWS)
    call = replace(call, automata=automata)
    whole = decoder.run(call, state)
    followed(automata, call, whole)
    order = np.random.default_rng(3).permutation(ROWS)
    for size in BATCHES:
        rows = np.roll(order, size)[:size]
        part = replace(rows_of(call, rows), automata=some(automata, rows))
        result = decoder.run(part, state_rows(state, rows))
        assert_array_equal(result.tokens, whole.tokens[:, rows])
        assert_array_equal(result.log_probs, whole.log_probs[:, rows])
        assert result.automata is not None
        assert whole.automata is not None
        assert_array_equal(result.automata, whole.automata[:, rows])
        for name, tensor in result.state.items():
            assert_array_equal(tensor, whole.state[name][:, rows])


def test_row_in_a_batch_equals_row_alone(decoder: Decoder) -> None:
    check_row_alone(decoder)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_row_in_an_int8_batch_equals_row_alone(cell: Cell, tmp_path: Path) -> None:
    bundle = compiled(cell, tmp_path / "bundle", Precision.INT8, hidden=37)
    check_row_alone(Decoder(bundle, Device.CPU))


def test_rows_without_an_automaton_keep_their_bits(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, STEPS, sampling())
    automata = tables(ROWS)
    automata.states[::2] = 0
    free = np.arange(0, ROWS, 2)
    mixed = decoder.run(replace(call, automata=automata), state)
    assert_same_bits(
        decoder.run(rows_of(call, free), state_rows(state, free)),
        LoopResult(
            tokens=mixed.tokens[:, free],
            log_probs=mixed.log_probs[:, free],
            state=state_rows(mixed.state, free),
        ),
    )


def test_allowed_symbols_keep_the_models_proportions(decoder: Decoder) -> None:
    temperature = 0.7
    call, state = random_run(decoder, V, 1, [replace(PLAIN[0], temperature=temperature)] * ROWS)
    automata = tables(ROWS)
    call = replace(
        call,
        forced=np.full((1, ROWS), FREE),
        automata=automata,
        asking=np.arange(ROWS),
        alternatives=V,
    )
    result = decoder.run(call, state)
    for row in range(ROWS):
        found = result.likeliest[row]
        logits = np.empty(V)
        logits[found.ids[0]] = found.log_probs[0]
        told = result.log_probs[0, row]
        assert told == np.float32(logits[result.tokens[0, row]]), "under the model, without bias"
        weights = np.exp((logits + automata.bias[automata.states[row]]) / temperature)
        passed = np.cumsum(weights / weights.sum()) - call.uniform[0, row]
        if np.abs(passed).min() > TIE:
            assert result.tokens[0, row] == np.argmax(passed > 0)


def test_greedy_takes_the_likeliest_symbol_that_is_allowed(decoder: Decoder) -> None:
    call, state = random_run(decoder, V, 1, [replace(PLAIN[0], temperature=0)] * ROWS)
    automata = tables(ROWS)
    call = replace(call, forced=np.full((1, ROWS), FREE), automata=automata)
    asked = replace(call, asking=np.arange(ROWS), alternatives=V)
    result = decoder.run(asked, state)
    for row, found in enumerate(result.likeliest):
        logits = np.empty(V)
        logits[found.ids[0]] = found.log_probs[0]
        biased = logits + automata.bias[automata.states[row]]
        best = biased.max()
        assert biased[result.tokens[0, row]] > best - TIE
