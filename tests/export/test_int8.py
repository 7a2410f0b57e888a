"""The int8 loop computes what it says, whatever the batch and wherever runs are cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graph.arithmetic import UNIT, Precision, quantise
from export.graph.weights import ModelWeights
from export.proof.quality import measure_scales
from serving.runtime.decoder import Decoder, LoopRun, State
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams, uniforms
from tests.conftest import tiny_checkpoint
from tests.export.lower import Make, V, compiled, own_texts
from tests.serving.runtime.runs import (
    BATCHES,
    FILTERED,
    PLAIN,
    assert_same_bits,
    joined_rows,
    random_run,
    result_rows,
    rows_of,
    run_in_cuts,
    state_rows,
)
from unroll.bundle.folder import Bundle
from unroll.errors import ParityError

pytestmark = pytest.mark.slow


ROWS = 130


def test_row_in_an_int8_batch_equals_row_alone(int8_bundle: Bundle) -> None:
    decoder = Decoder(int8_bundle, Device.CPU)
    params = PLAIN + FILTERED
    sampling = [params[row % len(params)] for row in range(ROWS)]
    call, state = random_run(decoder, V, 3, sampling)
    alone = joined_rows(
        [decoder.run(rows_of(call, [row]), state_rows(state, [row])) for row in range(ROWS)]
    )
    order = np.random.default_rng(3).permutation(ROWS)
    for size in BATCHES:
        rows = np.roll(order, size)[:size]
        result = decoder.run(rows_of(call, rows), state_rows(state, rows))
        assert_same_bits(result, result_rows(alone, rows))


def test_int8_calls_cut_anywhere_equal_the_whole(int8_bundle: Bundle) -> None:
    decoder = Decoder(int8_bundle, Device.CPU)
    call, state = random_run(decoder, V, 12, [SamplingParams(), *PLAIN, *FILTERED])
    call = replace(call, steps=np.arange(len(call.tokens)) + 3)
    is_alive = np.arange(12)[:, None] < call.steps
    whole = decoder.run(call, state)
    for cuts in ([1] * 12, [5, 7], [11, 1], [2, 3, 5, 2]):
        parts = run_in_cuts(decoder, call, state, cuts)
        # What comes after a row's last step means nothing, so it may differ.
        for one, other in ((whole.tokens, parts.tokens), (whole.log_probs, parts.log_probs)):
            np.testing.assert_array_equal(one[is_alive], other[is_alive])
        for name, tensor in whole.state.items():
            np.testing.assert_array_equal(parts.state[name], tensor)


def one_step(model: ModelWeights, state: State, token: int) -> np.ndarray:
    """Compute a GRU's first layer for one row, its products from integers one by one."""
    layer, step = model.layers[0], np.float32(1 / 127)
    h = state["h_0"][0, 0]
    q = [round(float(np.float32(x) / step)) for x in h]

    def product(weights: np.ndarray) -> list[tuple[int, float]]:
        rows = []
        for row in (weights * step).astype(np.float32):
            scale = float(np.float32(np.abs(row).max() / 63))
            integers = [round(float(w) / scale) for w in row]
            rows.append((sum(a * b for a, b in zip(integers, q, strict=True)), scale))
        return rows

    def gate(name: str, addend: np.ndarray) -> np.ndarray:
        sums = product(layer.gate("R", name))
        return np.array(
            [(s + round(float(a) / k)) * k for (s, k), a in zip(sums, addend, strict=True)]
        )

    x = model.networks[0].embedding[token].astype(np.float64)
    W, Wb, Rb = (
        {name: layer.gate(which, name).astype(np.float64) for name in "zrn"}
        for which in ("W", "Wb", "Rb")
    )
    z, r = (1 / (1 + np.exp(-gate(g, W[g] @ x + Wb[g] + Rb[g]))) for g in "zr")
    n = np.tanh(W["n"] @ x + Wb["n"] + r * gate("n", Rb["n"]))
    new: np.ndarray = (1 - z) * n + z * h
    return new


def test_int8_step_is_the_sum_of_integers_that_it_says(make: Make) -> None:
    bundle = make("gru", Precision.INT8, Device.CPU, 7)
    decoder = Decoder(bundle, Device.CPU)
    random = np.random.default_rng(2)
    model = ModelWeights.of(tiny_checkpoint("gru").model())
    for token in range(V):
        state = {"h_0": random.uniform(-1, 1, (3, 1, 7)).astype(np.float32)}
        call = LoopRun.plain(
            np.array([token]), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)
        )
        after = decoder.run(call, state).state["h_0"][0, 0]
        # fp32 in the activations' functions; a step of h is 8e-3.
        np.testing.assert_allclose(after, one_step(model, state, token), atol=2e-6)


def test_weights_are_rounded_to_the_nearest_of_127_steps() -> None:
    W = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
    W[3] = 0
    weights = quantise(W)
    assert np.abs(weights.W).max(1).tolist() == [63, 63, 63, 0, 63]
    error = np.abs(weights.W * weights.scale[:, None] - W)
    assert (error <= weights.scale[:, None] * 0.5001).all()


def test_no_two_products_leave_16_bits() -> None:
    weights = quantise(np.eye(3, 5, dtype=np.float32)).W.astype(np.int64)
    assert 2 * 255 * np.abs(weights).max() < 2**15


def test_relu_scale_is_measured_and_the_others_need_none() -> None:
    checkpoint = tiny_checkpoint("rnn_relu")
    texts = own_texts(checkpoint)
    scales = measure_scales(checkpoint.model(), texts)
    assert [scale.zero_point for scale in scales] == [0, 0, 0]
    assert all(0 < scale.step * 255 < 1e3 for scale in scales)
    model, largest = checkpoint.model(), np.zeros(3)
    with torch.inference_mode():
        rows = torch.from_numpy(texts.training[: 64 * 62].reshape(64, 62).T.copy())
        state = model.zero_state(64)
        for token in rows:
            _, state = model(token[None], state)
            largest = np.maximum(largest, state["h"].amax((1, 2)).numpy())
    np.testing.assert_allclose([scale.step * 255 for scale in scales], largest, rtol=1e-5)
    assert measure_scales(tiny_checkpoint("gru").model(), texts) == [UNIT] * 3


def test_scale_that_is_a_per_cent_too_large_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(W: np.ndarray) -> object:
        weights = quantise(W)
        return replace(weights, scale=weights.scale * np.float32(1.01))

    monkeypatch.setattr("export.graph.arithmetic.quantise", damaged)
    with pytest.raises(ParityError, match="long: states"):
        compiled("gru", tmp_path / "bundle", Precision.INT8)


@pytest.mark.parametrize("wrong", ["W", "bias", "scale"])
def test_mistake_in_the_int8_graph_is_seen(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(W: np.ndarray) -> object:
        weights = quantise(W)
        if wrong == "W":
            return replace(weights, W=weights.W[:, ::-1])
        if wrong == "scale":
            return replace(weights, scale=weights.scale[::-1])
        return replace(weights, scale=weights.scale * np.float32(1.2))

    monkeypatch.setattr("export.graph.arithmetic.quantise", damaged)
    with pytest.raises(ParityError, match="decode: log-probabilities"):
        compiled("gru", tmp_path / "bundle", Precision.INT8)


def test_int8_text_is_the_same_in_one_call_as_in_two_hundred(int8_bundle: Bundle) -> None:
    decoder = Decoder(int8_bundle, Device.CPU)
    uniform = uniforms(3, 0, 200)[:, None]
    start, free = np.array([int8_bundle.vocabulary.start_id]), np.full((200, 1), -1)
    whole = decoder.run(LoopRun.plain(start, free, uniform), decoder.zero_state(1))
    token, state, written = start, decoder.zero_state(1), []
    for t in range(200):
        part = decoder.run(LoopRun.plain(token, free[:1], uniform[t : t + 1]), state)
        token, state = part.tokens[-1], part.state
        written.append(int(token[0]))
    assert written == whole.tokens[:, 0].tolist()
    assert len(set(written)) > 2
