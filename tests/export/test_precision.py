"""Precisions below fp32: right in themselves, no worse than allowed, as reproducible as fp32."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graph.arithmetic import UNIT, Precision, Scale, quantise
from export.graph.weights import ModelWeights
from export.proof import quality
from export.proof.quality import Texts, load_texts, measure_scales
from serving.runtime.decoder import Decoder, LoopRun, State
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams, uniforms
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
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
from training.data.corpus.corpus import load_corpus
from training.model.model import CELLS, CharRNN
from training.run.checkpoint import Checkpoint, save_checkpoint
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import Rung
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import ParityError, SettingsError

pytestmark = pytest.mark.slow

V = len(TINY_SYMBOLS)
REDUCED = [(Precision.INT8, Device.CPU), (Precision.FP16, Device.CUDA)]
ROWS = 130


def own_texts(checkpoint: Checkpoint, symbols: int = 4000) -> Texts:
    """Let a model write the texts that it is judged on: none is likelier under its weights."""
    model, state = checkpoint.model(), None
    torch.manual_seed(5)
    token, written = torch.zeros(1, 20, dtype=torch.int64), []
    with torch.inference_mode():
        state = model.zero_state(20)
        for _ in range(symbols // 10):
            logits, state = model(token, state)
            token = torch.multinomial(torch.softmax(logits[0], -1), 1).T
            written.append(token[0].numpy())
    ids = np.stack(written, 1).ravel()
    return Texts(training=ids[:symbols], validation=ids[symbols:])


def compiled(
    cell: Cell, folder: Path, precision: Precision, device: Device = Device.CPU, hidden: int = 7
) -> Bundle:
    """Compile a tiny model."""
    checkpoint = tiny_checkpoint(cell, hidden_size=hidden)
    texts = own_texts(checkpoint)
    return export_briefly(checkpoint, folder, device=device, precision=precision, texts=texts)


def least(rung: Rung) -> float:
    """Return the least that a rung can be: a loss may be better by chance, errors have no sign."""
    return -rung.limit if rung.name == "quality: validation loss" else 0.0


Make = Callable[..., Bundle]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Compiles a tiny model once, for tests that do not change its bundle."""

    @cache
    def of(
        cell: Cell, precision: Precision, device: Device = Device.CPU, hidden: int = 7
    ) -> Bundle:
        folder = tmp_path_factory.mktemp(precision.value) / "bundle"
        return compiled(cell, folder, precision, device, hidden)

    return of


@pytest.fixture(scope="module", params=[(cell, size) for cell in CELLS for size in (7, 37)])
def int8_bundle(request: pytest.FixtureRequest, make: Make) -> Bundle:
    """An int8 bundle of each cell, of two odd sizes."""
    cell, hidden = request.param
    return make(cell, Precision.INT8, Device.CPU, hidden)


@pytest.mark.parametrize(("precision", "device"), REDUCED)
@pytest.mark.parametrize("cell", CELLS)
def test_every_rung_holds_and_the_loss_is_judged(
    cell: Cell, precision: Precision, device: Device, make: Make
) -> None:
    bundle = make(cell, precision, device, 7)
    assert bundle.manifest.model.precision == precision.value
    rungs = {rung.name: rung for rung in load_bundle(bundle.folder).manifest.parity.rungs}
    assert rungs["quality: validation loss"].limit == 0.005
    assert rungs["decode: chunks of 4"].limit == 0
    if precision is Precision.INT8:
        assert rungs["decode: row alone"].limit == 0
    quality = rungs.pop("quality: validation loss")
    assert 0 < abs(quality.difference) <= quality.limit, "a lower precision changes the loss"
    for rung in rungs.values():
        assert least(rung) <= rung.difference <= rung.limit, rung


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


def test_precision_that_costs_too_much_is_refused_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(*_: object) -> list[Scale]:
        return [Scale(step=1 / 2, zero_point=128)] * 3

    monkeypatch.setattr("export.compiler.measure_scales", coarse)
    with pytest.raises(ParityError, match=r"quality: validation loss: 0\.\d+, limit 0\.005"):
        compiled("lstm", tmp_path / "bundle", Precision.INT8)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize(
    ("precision", "device", "advice"),
    [
        (Precision.INT8, Device.CUDA, "take fp16 or fp32 for cuda"),
        (Precision.FP16, Device.CPU, "take int8 or fp32, or --device cuda"),
    ],
)
def test_precision_that_a_device_does_not_compute_is_refused(
    precision: Precision, device: Device, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=advice):
        compiled("gru", tmp_path / "bundle", precision, device)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("precision", "device"), REDUCED)
def test_precision_without_texts_is_refused(
    precision: Precision, device: Device, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="give texts"):
        export_briefly(
            tiny_checkpoint("gru"), tmp_path / "bundle", device=device, precision=precision
        )
    assert list(tmp_path.iterdir()) == []


def casebook_checkpoint(validation_fraction: float = 0.1) -> Checkpoint:
    """Make a checkpoint that says it was trained on the bundled text."""
    checkpoint, corpus = tiny_checkpoint("gru"), load_corpus("casebook")
    return replace(
        checkpoint,
        vocabulary=corpus.vocabulary,
        corpus_sha256=corpus.sha256,
        training_settings=replace(
            checkpoint.training_settings,
            corpus="casebook",
            validation_fraction=validation_fraction,
        ),
    )


def test_texts_are_the_training_s_own_split() -> None:
    texts = load_texts(casebook_checkpoint(validation_fraction=0.25))
    corpus = load_corpus("casebook")
    kept = int(len(corpus.text) * 0.25)
    assert len(texts.validation) == kept
    assert len(texts.training) == len(corpus.text) - kept


def test_another_text_than_the_training_s_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("another text\n" * 99, encoding="utf-8")
    with pytest.raises(SettingsError, match="name that text with --corpus"):
        load_texts(casebook_checkpoint(), str(other))


def test_training_without_validation_cannot_be_judged() -> None:
    with pytest.raises(SettingsError, match="--validation-fraction above 0"):
        load_texts(casebook_checkpoint(validation_fraction=0.0))


def test_loss_is_that_of_torch_reading_the_same_streams(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("lstm")
    ids = np.random.default_rng(1).integers(0, V, 64 * 301 + 17)
    bundle = export_briefly(checkpoint, tmp_path / "bundle")
    texts = Texts(training=ids, validation=ids)
    rung = quality.judge(Decoder(bundle, Device.CPU), checkpoint.model(), texts)
    rows = torch.from_numpy(ids[: 64 * 301].reshape(64, 301).T.copy())
    with torch.inference_mode():
        logits, _ = checkpoint.model()(rows[:-1], checkpoint.model().zero_state(64))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[1:].flatten())
    read = f"{64 * 300} of {len(ids)} symbols"
    assert f"{read}, {loss:.4f} nats in torch, {loss:.4f} here" == rung.compared
    assert rung.difference < 1e-5


def test_a_long_text_is_judged_on_the_beginnings_of_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint("gru")
    bundle = export_briefly(checkpoint, tmp_path / "bundle")
    ids = np.random.default_rng(1).integers(0, V, (64, 301))
    monkeypatch.setattr(quality, "JUDGED_AT_MOST", 64 * 40)
    monkeypatch.setattr(quality, "JUDGED_AT_LEAST", 64 * 20)
    decoder, model = Decoder(bundle, Device.CPU), checkpoint.model()

    def judge(validation: np.ndarray) -> Rung:
        return quality.judge(decoder, model, Texts(training=validation, validation=validation))

    rung = judge(ids.flatten())
    assert rung.compared.startswith(f"{64 * 40} of {ids.size} symbols")
    alone = judge(ids[:, :41].flatten())
    assert rung.compared.partition(", ")[2] == alone.compared.partition(", ")[2]
    monkeypatch.setattr(quality, "LOGITS_AT_MOST", 64 * V * 30)
    assert judge(ids.flatten()).compared.startswith(f"{64 * 30} of")


def test_fingerprint_tells_precisions_weights_and_vocabularies_apart_and_nothing_else(
    tmp_path: Path, make: Make
) -> None:
    checkpoint = tiny_checkpoint("gru")
    other_weights = replace(
        checkpoint, weights=checkpoint.weights | {"decoder.bias": torch.ones(V)}
    )
    other_symbols = replace(
        checkpoint, vocabulary=type(checkpoint.vocabulary)("\n abcdefgh$", "\n")
    )
    other_history = replace(
        checkpoint,
        corpus_name="elsewhere",
        metrics=replace(checkpoint.metrics, update=99, validation_loss=1.0),
    )

    def fingerprint(name: str, of: Checkpoint, **options: object) -> str:
        return export_briefly(of, tmp_path / name, **options).manifest.fingerprint

    plain = fingerprint("plain", checkpoint)
    same = {
        fingerprint("again", checkpoint),
        fingerprint("history", other_history),
        fingerprint("cuda", checkpoint, device=Device.CUDA),
    }
    assert same == {plain}
    others = [
        make("gru", Precision.INT8, Device.CPU, 7).manifest.fingerprint,
        make("gru", Precision.FP16, Device.CUDA, 7).manifest.fingerprint,
        fingerprint("weights", other_weights),
        fingerprint("symbols", other_symbols),
    ]
    assert len({plain, *others}) == 5


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


def test_command_line_exports_in_int8(tmp_path: Path) -> None:
    corpus = load_corpus("casebook")
    checkpoint = casebook_checkpoint()
    vocabulary = Vocabulary.of(corpus.text)
    settings = replace(checkpoint.model_settings, vocabulary_size=len(vocabulary))
    checkpoint = replace(
        checkpoint,
        vocabulary=vocabulary,
        model_settings=settings,
        weights=CharRNN(settings).state_dict(),
    )
    save_checkpoint(checkpoint, tmp_path / "best.safetensors")
    command = [sys.executable, "-X", "importtime", "-m", "unroll", "export"]
    command += ["--checkpoint", str(tmp_path / "best.safetensors")]
    command += ["--bundle", str(tmp_path / "bundle"), "--precision", "int8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.nn" in done.stderr
    assert "torch._dynamo" not in done.stderr, "torch's compiler takes a second, unused"
    assert "warning: hardly trained: " in done.stdout
    assert "quality: validation loss" in done.stdout
    assert load_bundle(tmp_path / "bundle").manifest.model.precision == "int8"
