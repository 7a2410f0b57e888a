"""The protocols, symbol by symbol, against loops that cannot be misunderstood."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import TINY_SYMBOLS, tiny_checkpoint
from training.evaluate import adaptive
from training.evaluate.adaptive import (
    DECAYS,
    PASSES,
    RATES,
    SEGMENT,
    Adaptation,
    Choice,
    adaptive_losses,
    choose_adaptation,
    measure_gradients,
)
from training.evaluate.interval import block_interval, block_length
from training.evaluate.reading import Losses, encode, stream_losses, window_losses
from training.evaluate.report import Figure
from training.model.model import CELLS, CharRNN
from training.settings import Cell
from unroll.errors import CorpusError, TrainingError

ROUNDING = 1e-5  # nats; fp32 sums of a few dozen products in another order
cells = pytest.mark.parametrize("cell", CELLS)


def model_of(cell: Cell) -> CharRNN:
    return tiny_checkpoint(cell).model()


def text_ids(symbols: int, seed: int = 3) -> Tensor:
    letters = np.random.default_rng(seed).integers(len(TINY_SYMBOLS), size=symbols)
    return encode(tiny_checkpoint("gru").vocabulary, "".join(TINY_SYMBOLS[i] for i in letters))


@torch.no_grad()
def one_at_a_time(model: CharRNN, ids: Tensor, forget_every: int) -> Losses:
    """Predict each id from those before it; the state is zero again after so many."""
    state, losses = model.zero_state(1), []
    for t in range(len(ids) - 1):
        if t % forget_every == 0:
            state = model.zero_state(1)
        logits, state = model(ids[t].view(1, 1), state)
        probabilities = torch.softmax(logits[0, 0].double(), 0)
        losses.append(-math.log(probabilities[ids[t + 1]]))
    return np.array(losses)


@cells
@pytest.mark.parametrize("chunk", [1, 13, 4096])
def test_a_stream_is_one_symbol_after_the_other(cell: Cell, chunk: int) -> None:
    model, ids = model_of(cell), text_ids(157)
    losses = stream_losses(model, ids, chunk=chunk)
    assert losses.shape == (157,)
    assert np.abs(losses - one_at_a_time(model, ids, len(ids))).max() < ROUNDING


@cells
@pytest.mark.parametrize("symbols", [5, 11, 12, 157, 11 * 70, 11 * 70 + 4])
def test_a_window_knows_nothing_of_the_one_before(cell: Cell, symbols: int) -> None:
    model, ids = model_of(cell), text_ids(symbols)
    losses = window_losses(model, ids, window=11)
    assert losses.shape == (symbols,)
    assert np.abs(losses - one_at_a_time(model, ids, 11)).max() < ROUNDING


def test_the_first_symbol_is_predicted_from_the_start_symbol() -> None:
    checkpoint = tiny_checkpoint("gru")
    assert encode(checkpoint.vocabulary, "ab").tolist() == [0, 2, 3]  # "\n", "a", "b"


@pytest.mark.slow
@cells
def test_each_protocol_tells_of_every_symbol_once(cell: Cell) -> None:
    model, ids, told = model_of(cell), text_ids(97), list[int]()
    for read in (stream_losses, window_losses):
        told.clear()
        read(model, ids, told.append)
        assert sum(told) == 97
    told.clear()
    choose_adaptation(model, ids, told.append)
    assert sum(told) == 97 * PASSES


@pytest.mark.slow
@cells
def test_without_a_rate_adaptive_is_the_stream(cell: Cell) -> None:
    model, ids = model_of(cell), text_ids(157)
    loss, rms = measure_gradients(model, ids)
    losses = adaptive_losses(model, ids, Adaptation(rate=0.0, decay=0.5), rms)
    assert loss == losses.mean()
    # Not to the last bit: where no gradients are wanted, torch computes an LSTM otherwise.
    assert losses == pytest.approx(stream_losses(model, ids, chunk=SEGMENT), abs=1e-5)


@pytest.mark.slow
@cells
def test_adapting_learns_from_a_text_that_repeats_itself(cell: Cell) -> None:
    model = model_of(cell)
    ids = encode(tiny_checkpoint("gru").vocabulary, "abc hg£ " * 80)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    _, rms = measure_gradients(model, ids)
    losses = adaptive_losses(model, ids, Adaptation(rate=3e-3), rms)
    stream = stream_losses(model, ids)
    assert losses[:SEGMENT] == pytest.approx(stream[:SEGMENT], abs=ROUNDING)
    assert losses[-100:].mean() < stream[-100:].mean() - 0.5
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(position=st.integers(0, 150), seed=st.integers(4, 1000), cell=st.sampled_from(CELLS))
def test_no_symbol_is_used_before_it_is_scored(position: int, seed: int, cell: Cell) -> None:
    """What a text goes on with changes nothing of what was said about it until there."""
    model, one = model_of(cell), text_ids(151)
    other = torch.cat([one[: position + 1], text_ids(151, seed)[position + 1 :]])
    _, rms = measure_gradients(model, text_ids(97, seed=1))

    def adapting(ids: Tensor) -> Losses:
        return adaptive_losses(model, ids, Adaptation(rate=1e-3, decay=0.1), rms)

    def in_windows(ids: Tensor) -> Losses:
        return window_losses(model, ids, window=11)

    def as_stream(ids: Tensor) -> Losses:
        return stream_losses(model, ids)

    for read in (adapting, in_windows, as_stream):
        np.testing.assert_array_equal(read(one)[:position], read(other)[:position])


@cells
def test_the_weights_move_as_the_paper_says(cell: Cell) -> None:
    ids, rate, decay = text_ids(SEGMENT * 3 + 5), 2e-3, 0.8
    model = model_of(cell)
    numbers = torch.Generator().manual_seed(6)
    rms = {
        name: torch.rand(weight.shape, generator=numbers) * 0.02
        for name, weight in model.named_parameters()
    }
    losses = adaptive_losses(model, ids, Adaptation(rate=rate, decay=decay), rms)

    mean = sum(float(figure.mean()) for figure in rms.values()) / len(rms)
    moved, trained = model_of(cell), dict(model.named_parameters())
    expected, state = list[float](), model.zero_state(1)
    for begin in range(0, len(ids) - 1, SEGMENT):
        piece = ids[begin : begin + SEGMENT + 1, None]
        logits, state = moved(piece[:-1], {name: h.detach() for name, h in state.items()})
        costs = -logits[:, 0].log_softmax(1)[torch.arange(len(piece) - 1), piece[1:, 0]]
        expected += costs.tolist()
        moved.zero_grad()
        costs.mean().backward()
        for name, weight in moved.named_parameters():
            assert weight.grad is not None
            back = torch.minimum(decay * rms[name] / mean, torch.ones(()))
            step = rate * weight.grad / (rms[name] + 1e-4)
            weight.data = weight.data + back * (trained[name].data - weight.data) - step
    assert losses == pytest.approx(np.array(expected), abs=1e-4)  # the steps magnify rounding
    unmoved = stream_losses(model, ids)
    assert np.abs(losses - unmoved).max() > 0.1


def test_the_rate_is_the_one_that_read_the_tuning_text_best() -> None:
    model, ids = model_of("gru"), encode(tiny_checkpoint("gru").vocabulary, "abc hg£ " * 40)
    choice = choose_adaptation(model, ids)
    rates = [trial.adaptation.rate for trial in choice.trials[: len(RATES)]]
    assert rates == list(RATES)
    assert [trial.adaptation.decay for trial in choice.trials[len(RATES) :]] == list(DECAYS)
    best = min(choice.trials, key=lambda trial: trial.loss)
    assert choice.adaptation == best.adaptation
    again = adaptive_losses(model, ids, choice.adaptation, choice.rms).mean()
    assert best.loss == again < choice.unadapted
    assert choice.unadapted == pytest.approx(stream_losses(model, ids).mean(), abs=ROUNDING)
    assert choice.is_at_an_end  # the more the better, on such a text
    inside = replace(choice, adaptation=Adaptation(rate=RATES[1]))
    assert not inside.is_at_an_end


def test_a_rate_that_explodes_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = model_of("rnn_relu"), text_ids(SEGMENT * 9)
    monkeypatch.setattr(adaptive, "RATES", (1e-4, 1e30))
    choice: Choice = choose_adaptation(model, ids)
    assert choice.trials[1].loss == math.inf
    assert choice.adaptation.rate == 1e-4


def test_an_empty_tuning_text_is_refused() -> None:
    with pytest.raises(CorpusError, match="leave out --adaptive"):
        choose_adaptation(model_of("gru"), text_ids(0))


def test_a_figure_that_is_none_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"stream: the loss of symbol 2 is inf"):
        Figure.of("stream", np.array([1.0, 2.0, np.inf, np.nan]))


def test_bits_are_nats_over_ln_2() -> None:
    figure = Figure.of("stream", np.full(60, 2 * math.log(2)))
    assert figure.bits == pytest.approx(2)
    assert (figure.low, figure.high) == pytest.approx((figure.nats, figure.nats))


def test_the_interval_of_independent_losses_is_the_normal_one() -> None:
    losses = np.random.default_rng(8).normal(1.5, 0.7, 200_000)
    low, high = block_interval(losses)
    error = 0.7 / math.sqrt(len(losses))
    # Of 100 blocks and 2,000 resamples, so its width is uncertain by about a tenth.
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.25)
    assert low < losses.mean() < high
    assert block_interval(losses) == (low, high)


def test_the_interval_covers_the_mean_of_losses_that_depend_on_their_neighbours() -> None:
    """Each block of 500 has a level of its own, as speeches have; single symbols would not tell."""
    covered, numbers = 0, np.random.default_rng(8)
    for _ in range(100):
        levels = numbers.normal(1.5, 0.3, 200)
        losses = np.repeat(levels, 500) + numbers.normal(0, 0.5, 100_000)
        low, high = block_interval(losses)
        covered += low < 1.5 < high
    # 93 expected of 50 blocks; less than 82 has a chance below 1 in 1,000. Without blocks about 10.
    assert covered >= 82


@pytest.mark.parametrize(("symbols", "block"), [(1, 1), (29, 1), (600, 20), (60_000, 2000)])
def test_short_texts_have_short_blocks(symbols: int, block: int) -> None:
    assert block_length(symbols) == block
    block_interval(np.ones(symbols))
