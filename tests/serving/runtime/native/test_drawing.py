"""The native loop draws what the decode graphs draw: filters, automata, alternatives."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from serving.runtime.decoder import FREE, Automata, Decoder, LoopResult, LoopRun, State
from serving.runtime.native.decoder import NativeDecoder
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.conftest import tiny_checkpoint
from tests.serving.runtime.native.bundles import compiled, needs_kernels
from tests.serving.runtime.runs import BATCHES, FILTERED, PLAIN, random_run, rows_of, state_rows
from training.model.model import CharRNN
from training.run.checkpoint import Checkpoint
from unroll.bundle.folder import Bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError

ROWS, STEPS = 130, 3
WIDE = (
    *PLAIN,
    *FILTERED,
    SamplingParams(top_p=0.99),
    SamplingParams(temperature=30, top_p=0.6),
    SamplingParams(temperature=8, top_k=40, top_p=0.95),
    SamplingParams(top_k=10**6, min_p=0.001),
)

pytestmark = needs_kernels


def checkpoint_of(vocabulary_size: int, *, has_unknown: bool) -> Checkpoint:
    """Make a checkpoint with so many symbols, the last of them only read or not."""
    tiny = tiny_checkpoint("gru", layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(vocabulary_size)
        model = CharRNN(replace(tiny.model_settings, vocabulary_size=vocabulary_size))
        with torch.no_grad():
            model.decoder.weight.mul_(8)
    symbols = "\n" + "".join(chr(0x4E00 + i) for i in range(vocabulary_size - 1))
    unknown = symbols[-1] if has_unknown else ""
    return replace(
        tiny,
        model_settings=model.settings,
        vocabulary=Vocabulary(symbols, "\n", unknown_symbol=unknown),
        weights=model.state_dict(),
    )


@cache
def bundle_of(vocabulary_size: int, precision: str, *, has_unknown: bool = False) -> Bundle:
    """Compile a model with so many symbols."""
    checkpoint = checkpoint_of(vocabulary_size, has_unknown=has_unknown)
    return compiled(checkpoint, precision, Path(mkdtemp()) / "bundle")


@cache
def decoders_of(vocabulary_size: int) -> tuple[Decoder, NativeDecoder]:
    """Load a bundle both ways."""
    bundle = bundle_of(vocabulary_size, "fp32")
    return Decoder(bundle, Device.CPU), NativeDecoder(bundle)


def assert_same(one: LoopResult, other: LoopResult) -> None:
    """Compare all outputs of runs whose rows make all steps, bit for bit."""
    assert_array_equal(one.tokens, other.tokens)
    assert_array_equal(one.log_probs, other.log_probs)
    if other.automata is not None and one.automata is not None:
        assert_array_equal(one.automata, other.automata)
    assert len(one.likeliest) == len(other.likeliest)
    for ours, theirs in zip(one.likeliest, other.likeliest, strict=True):
        assert_array_equal(ours.ids, theirs.ids)
        assert_array_equal(ours.log_probs, theirs.log_probs)
    for name, tensor in other.state.items():
        assert one.state[name].tobytes() == tensor.tobytes()


def some(result: LoopResult, rows: NDArray[np.int64]) -> LoopResult:
    """Take some rows of a result."""
    return LoopResult(
        tokens=result.tokens[:, rows],
        log_probs=result.log_probs[:, rows],
        state=state_rows(result.state, rows),
        automata=None if result.automata is None else result.automata[:, rows],
    )


def mixed_run(decoder: Decoder, symbols: int) -> tuple[LoopRun, State]:
    """Describe a run of rows with all kinds of filters and with none."""
    sampling = [WIDE[row % len(WIDE)] for row in range(ROWS)]
    return random_run(decoder, symbols, STEPS, sampling)


@pytest.mark.slow
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("symbols", "has_unknown"), [(76, False), (513, True), (1000, False), (5000, False)]
)
def test_every_batch_of_filtered_rows_has_the_bits_of_the_graph(
    symbols: int, has_unknown: bool, precision: str
) -> None:
    bundle = bundle_of(symbols, precision, has_unknown=has_unknown)
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = mixed_run(graph, symbols)
    call = replace(call, forced=np.where(np.arange(STEPS)[:, None] == 1, FREE, call.forced))
    whole = graph.run(call, state)
    order = np.random.default_rng(3).permutation(ROWS)
    for size in BATCHES:
        rows = np.roll(order, size)[:size]
        assert_same(ours.run(rows_of(call, rows), state_rows(state, rows)), some(whole, rows))


def tables(symbols: int, rows: int) -> Automata:
    """Make random tables: some symbols banned, some favoured; state 0 allows all."""
    random, states = np.random.default_rng(symbols), 9
    bias = random.normal(0, 2, (states, symbols)).astype(np.float32)
    bias[random.random((states, symbols)) < 0.5] = -np.inf
    bias[:, 3] = bias[0] = 0
    after = random.integers(1, states, (states, symbols))
    after[0] = 0
    return Automata(bias=bias, next=after.ravel(), states=random.integers(0, states, rows))


@pytest.mark.slow
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("symbols", "has_unknown"), [(76, False), (76, True), (1000, True)])
def test_automata_and_alternatives_are_those_of_the_graph(symbols: int, has_unknown: bool) -> None:
    bundle = bundle_of(symbols, "fp32", has_unknown=has_unknown)
    graph, ours = Decoder(bundle, Device.CPU), NativeDecoder(bundle)
    call, state = mixed_run(graph, symbols)
    plain = rows_of(call, np.arange(ROWS))
    plain = replace(plain, top_k=0 * call.top_k, top_p=call.top_p**0, min_p=0 * call.min_p)
    automata = tables(symbols - has_unknown, ROWS)
    for run in (call, plain):
        for asking, alternatives in ((0, 0), (ROWS, 0), (ROWS, symbols), (1, 1), (ROWS // 2, 5)):
            rows = np.random.default_rng(asking).permutation(ROWS)[:asking]
            for rules in (None, automata):
                asked = replace(run, automata=rules, asking=rows, alternatives=alternatives)
                assert_same(ours.run(asked, state), graph.run(asked, state))


@st.composite
def distributions(draw: st.DrawFn, symbols: int) -> NDArray[np.float32]:
    """Draw what is added to the logits: wide or peaked, with many ties or with none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0]))
    bias = random.normal(0, width, symbols)
    if levels := draw(st.sampled_from([0, 1, 2, 5, 50])):
        bias = np.round(bias * levels) / levels
    bias[random.random(symbols) < draw(st.sampled_from([0, 0.3, 0.95]))] = -np.inf
    bias[random.integers(symbols)] = draw(st.sampled_from([0.0, 3.0, 12.0]))
    return bias.astype(np.float32)


FILTERS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0, 0.3, 1, 1, 2, 40]),
    top_k=st.sampled_from([0, 0, 1, 2, 17, 40, 75, 76, 400]),
    top_p=st.one_of(st.just(1.0), st.floats(2.0**-20, 1, width=32)),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1, width=32)),
)


@pytest.mark.slow
@pytest.mark.parametrize("symbols", [76, 1000])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_filters_of_any_distribution_keep_what_the_graph_keeps(
    symbols: int, data: st.DataObject
) -> None:
    graph, ours = decoders_of(symbols)
    each, kinds = 16, data.draw(st.integers(1, 4))
    bias = np.stack([data.draw(distributions(symbols)) for _ in range(kinds)])
    filters = [data.draw(FILTERS) for _ in range(kinds)]
    call, state = random_run(graph, symbols, STEPS, [one for one in filters for _ in range(each)])
    states = np.repeat(np.arange(kinds), each)
    call = replace(
        call,
        forced=np.full((STEPS, kinds * each), FREE),
        automata=Automata(bias=bias, next=np.repeat(np.arange(kinds), symbols), states=states),
    )
    call.uniform[0, ::each] = 0
    call.uniform[0, 1::each] = 1 - 2.0**-24
    asked = replace(call, asking=np.arange(0, kinds * each, each), alternatives=symbols)
    assert_same(ours.run(asked, state), graph.run(asked, state))


@pytest.mark.parametrize("name", ["tokens", "forced"])
@pytest.mark.parametrize("wrong", [76, 2**40])
def test_symbol_that_does_not_exist_is_refused(name: str, wrong: int) -> None:
    _, ours = decoders_of(76)
    call, state = random_run(ours, 76, STEPS, PLAIN)
    getattr(call, name)[..., -1] = wrong
    with pytest.raises(InputError, match=f"{name}: must be below 76, the symbols, got {wrong}"):
        ours.run(call, state)


@pytest.mark.parametrize("wrong", [-1, 9, 2**40])
def test_state_that_no_automaton_has_is_refused(wrong: int) -> None:
    _, ours = decoders_of(76)
    call, state = random_run(ours, 76, STEPS, PLAIN)
    automata = tables(76, len(PLAIN))
    automata.states[-1] = wrong
    with pytest.raises(InputError, match="automata: states and what follows them must be 0 to 8"):
        ours.run(replace(call, automata=automata), state)
    automata.states[-1], automata.next[:] = 1, wrong
    with pytest.raises(InputError, match="automata: states and what follows them must be 0 to 8"):
        ours.run(replace(call, automata=automata), state)
