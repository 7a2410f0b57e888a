"""The ladder holds for every cell, and goes red for each mistake it is there for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from export.compiler import export as compile_bundle
from export.compiler import require_memory
from export.graph.cells import Layer
from export.graph.weights import GATES, Array, LayerWeights, ModelWeights
from export.proof import reference
from export.proof.parity import prove
from export.proof.reference import Run, verify_run
from tests.conftest import tiny_checkpoint
from training.model.model import CELLS, CharRNN
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.errors import DeviceError, ParityError
from unroll.machine import available_memory

Damage = Callable[[ModelWeights], ModelWeights]

RUNGS = [
    "step: logits",
    "step: final state",
    "decode: log-probabilities",
    "decode: final state",
    "decode: alternatives",
    "read: loop",
    "inspect: units",
    "inspect: loop",
    "decode: chunks of 4",
    "decode: one at a time",
    "decode: row alone",
    "long: log-probabilities",
    "long: states",
    "long: greedy symbols",
    "long: seeded symbols",
    "decode: filters",
    "decode: full",
    "decode: constrained",
]


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_every_rung_holds(
    cell: Cell, layers: int, tmp_path: Path, tiny_bundles: dict[Cell, Path]
) -> None:
    if layers == 1:
        compile_bundle(tiny_checkpoint(cell, layers=1), tmp_path / cell)
        folder = tmp_path / cell
    else:
        folder = tiny_bundles[cell]
    rungs = load_bundle(folder).manifest.parity.rungs
    assert [rung.name for rung in rungs] == RUNGS
    for rung in rungs:
        assert 0 <= rung.difference <= rung.limit <= 1e-4, rung


def refused(cell: Cell, folder: Path, layers: int = 3) -> str:
    """Export what must not pass; return what was said. Nothing may be left behind.

    It is seen in a long text that is shorter than users' proofs have, too.
    """
    checkpoint = tiny_checkpoint(cell, layers=layers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.compiler.prove", partial(prove, long=1000))
        with pytest.raises(ParityError, match="nothing was written") as caught:
            compile_bundle(checkpoint, folder / "bundle")
    assert list(folder.iterdir()) == []
    return str(caught.value)


def damage_all(monkeypatch: pytest.MonkeyPatch, damage: Damage) -> None:
    """Change the weights between torch and both graphs."""
    real = ModelWeights.of

    def damaged(model: CharRNN, sampled_size: int) -> ModelWeights:
        return damage(real(model, sampled_size))

    monkeypatch.setattr(ModelWeights, "of", damaged)


def exchanges() -> Iterator[tuple[Cell, dict[str, int]]]:
    """List every exchange of two gates."""
    cells: tuple[Cell, ...] = ("gru", "lstm")
    for cell in cells:
        for a, b in combinations(GATES[cell], 2):
            yield cell, GATES[cell] | {a: GATES[cell][b], b: GATES[cell][a]}


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "gates"), list(exchanges()))
def test_two_gates_exchanged_are_seen(
    cell: Cell, gates: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GATES, cell, gates)
    told = refused(cell, tmp_path)
    for rung in ("step: logits", "decode: log-probabilities", "long: log-probabilities"):
        assert rung in told


def _drop_recurrent_bias(layer: LayerWeights) -> LayerWeights:
    return replace(layer, Rb=np.zeros_like(layer.Rb))


def _drop_input_bias(layer: LayerWeights) -> LayerWeights:
    return replace(layer, Wb=np.zeros_like(layer.Wb))


def _transpose_recurrent(layer: LayerWeights) -> LayerWeights:
    gates = np.split(layer.R, len(layer.R) // layer.hidden_size)
    return replace(layer, R=np.concatenate([gate.T for gate in gates]))


def _exchange_biases(layer: LayerWeights) -> LayerWeights:
    return replace(layer, Wb=layer.Rb, Rb=layer.Wb)


def of_layer(change: Callable[[LayerWeights], LayerWeights], index: int = -1) -> Damage:
    """Change one layer."""

    def damage(weights: ModelWeights) -> ModelWeights:
        layers = list(weights.layers)
        layers[index] = change(layers[index])
        return _with_layers(weights, layers)

    return damage


def _exchange_upper_layers(weights: ModelWeights) -> ModelWeights:
    first, second, third = weights.layers
    return _with_layers(weights, [first, third, second])


def _with_layers(weights: ModelWeights, layers: list[LayerWeights]) -> ModelWeights:
    (network,) = weights.networks
    return replace(weights, networks=[replace(network, layers=layers)])


def _shift_one_output(weights: ModelWeights) -> ModelWeights:
    bias = weights.decoder_bias.copy()
    bias[4] += 0.01
    return replace(weights, decoder_bias=bias)


DAMAGES = {
    "recurrent bias dropped": of_layer(_drop_recurrent_bias),
    "input bias dropped": of_layer(_drop_input_bias),
    "first layer's input bias dropped": of_layer(_drop_input_bias, 0),
    "recurrent weights transposed": of_layer(_transpose_recurrent),
    "layers exchanged": _exchange_upper_layers,
    "one output shifted": _shift_one_output,
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_wrong_weights_are_seen(
    cell: Cell, damage: Damage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_all(monkeypatch, damage)
    told = refused(cell, tmp_path)
    assert "step: logits" in told
    assert "decode: log-probabilities" in told


def test_gru_biases_are_not_interchangeable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_all(monkeypatch, of_layer(_exchange_biases))
    assert "step: logits" in refused("gru", tmp_path)


def test_mistake_in_one_graph_alone_is_seen_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_recurrent_bias(self: Layer, gate: str) -> Array:
        return self.weights.gate("Wb", gate)

    monkeypatch.setattr(Layer, "_bias", without_recurrent_bias)
    told = refused("lstm", tmp_path)
    assert "decode: log-probabilities" in told
    assert "step:" not in told


def test_lstm_whose_states_are_exchanged_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelWeights, "state_names", property(lambda _: ("c", "h")))
    assert "step: final state" in refused("lstm", tmp_path)


def test_weights_that_are_not_finite_fail_every_rung_on_floats(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru", layers=1)
    checkpoint.weights["decoder.bias"][3] = torch.nan
    with pytest.raises(ParityError) as caught:
        compile_bundle(checkpoint, tmp_path / "bundle")
    for rung in ("step: logits", RUNGS[4], *RUNGS[8:10], RUNGS[15], "decode: log-probabilities"):
        assert f"{rung}: nan" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_bundle_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compile_bundle(tiny_checkpoint("gru"), tmp_path / "bundle")
    damage_all(monkeypatch, _shift_one_output)
    with pytest.raises(ParityError):
        compile_bundle(tiny_checkpoint("gru"), tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").manifest == before.manifest


def test_proof_leaves_the_number_of_torch_threads_as_it_was(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compile_bundle(tiny_checkpoint("gru", layers=1), tmp_path / "bundle")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def runs_of(run: Run) -> Iterator[Run]:
    """Yield each run of a text as one that stands alone, the first symbol of both rows alike."""
    for number, state in enumerate(run.states):
        block = slice(number * run.steps, (number + 1) * run.steps)
        yield replace(
            run,
            start=int(run.tokens[block.start - 1, 0]) if number else run.start,
            tokens=run.tokens[block],
            log_probs=run.log_probs[block],
            uniform=run.uniform[block],
            states=[state],
        )


def test_a_run_is_checked_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, random = tiny_checkpoint("lstm"), np.random.default_rng(3)
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    T, V = 40, len(vocabulary)
    run = Run(
        start=0,
        tokens=np.repeat(random.integers(0, V, (T, 1)), 2, 1),
        log_probs=-random.random((T, 2), np.float32),
        uniform=random.random((T, 2), np.float32),
        steps=11,  # the last run has 7
        states=[
            {f"{name}_0": random.random((3, 2, 7), np.float32) for name in "hc"} for _ in range(4)
        ],
    )
    with torch.inference_mode():
        whole = verify_run(model, run, 0.08, vocabulary)
        monkeypatch.setattr(reference, "PROBABILITIES_AT_MOST", 7 * 2 * V)
        blocks = verify_run(model, run, 0.08, vocabulary)
        monkeypatch.setattr(reference, "PROBABILITIES_AT_MOST", 22 * 2 * V)
        two = verify_run(model, run, 0.08, vocabulary)
        apart = [verify_run(model, part, 0.08, vocabulary) for part in runs_of(run)]
    assert min(*whole.mismatches, *whole.ties) > 0
    for cut in (blocks, two):
        assert (cut.mismatches, cut.ties) == (whole.mismatches, whole.ties)
        assert cut.drift == pytest.approx(whole.drift, rel=1e-5)
    assert whole.mismatches == np.sum([verdict.mismatches for verdict in apart], 0).tolist()


def test_what_the_memory_cannot_hold_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru")
    with pytest.raises(DeviceError, match=r"need about 512 MiB.*and 256 MiB are free"):
        require_memory(checkpoint, 2**28)
    require_memory(checkpoint, 2**30)
    require_memory(checkpoint, None)
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   3 kB\n")
    assert available_memory(tmp_path / "meminfo") == 3072
    assert available_memory(tmp_path / "none") is None


@pytest.mark.parametrize("row", [0, 1])
def test_a_state_that_no_run_led_to_is_seen(row: int) -> None:
    checkpoint = tiny_checkpoint("lstm")
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    tokens = np.full((8, 2), 1)
    tokens[2, 1] = end = 3  # so that row 1 has ended when the first run has
    states = []
    with torch.inference_mode():
        state = model.zero_state(2)
        for part in (np.array([[0, 0], *tokens[:3].tolist()]), tokens[3:7]):
            states.append({f"{name}_0": tensor.numpy().copy() for name, tensor in state.items()})
            _, state = model(torch.from_numpy(part), state)
        states[1]["c_0"][2, row, 5] += 0.01
        run = Run(
            start=0,
            tokens=tokens,
            log_probs=np.zeros((8, 2), np.float32),
            uniform=np.zeros((8, 2), np.float32),
            steps=4,
            states=states,
            end=end,
        )
        apart = verify_run(model, run, 0.0, vocabulary).apart
    assert (apart > 0.001) == (row == 0)
