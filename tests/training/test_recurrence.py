"""The layers written out by hand, beside torch's own."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from serving.errors import DeviceError
from training.model import CELLS, CharRNN, ModelSettings, State
from training.precision import Precision, resolve_precision
from training.recurrence import threads as threads_module
from training.recurrence import weight
from training.settings import Cell

V, E, H, N, T = 7, 3, 5, 4, 6
Results = tuple[Tensor, State, dict[str, Tensor]]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Give torch another number of threads, for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def build(cell: Cell, layers: int, **settings: Any) -> CharRNN:
    torch.manual_seed(zlib.crc32(cell.encode()))
    return CharRNN(
        ModelSettings(
            cell=cell,
            vocabulary_size=V,
            embedding_size=E,
            hidden_size=H,
            layers=layers,
            **settings,
        )
    )


def results(model: CharRNN, *, by_hand: bool, N: int = N) -> Results:
    """Outputs, last state, and gradients of all that is differentiable, under random ones."""
    torch.manual_seed(1)
    tokens = torch.randint(V, (T, N))
    state = {
        name: torch.randn_like(zero).requires_grad_() for name, zero in model.zero_state(N).items()
    }
    run = model._run_by_hand if by_hand else model._run_torch
    outputs, after = run(model.networks[0], tokens, state)
    loss = (outputs * torch.randn(outputs.shape)).sum()
    for tensor in after.values():
        loss = loss + (tensor * torch.randn(tensor.shape)).sum()
    wanted = {"embedding": model.embedding.weight, **dict(model.recurrent.named_parameters())}
    wanted |= {f"state {name}": tensor for name, tensor in state.items()}
    gradients = torch.autograd.grad(loss, list(wanted.values()))
    return outputs, after, dict(zip(wanted, gradients, strict=True))


def farthest(a: Results, b: Results) -> dict[str, float]:
    """The greatest difference of each tensor, relative to its greatest value."""
    pairs = {"outputs": (a[0], b[0])}
    pairs |= {f"after {name}": (a[1][name], b[1][name]) for name in a[1]}
    pairs |= {name: (a[2][name], b[2][name]) for name in a[2]}
    return {
        name: float((x - y).detach().abs().max() / x.detach().abs().max())
        for name, (x, y) in pairs.items()
    }


WAYS = {"torch": (False, False), "oneDNN": (False, True), "tiles": (True, True)}
HERE = {
    name: flags
    for name, flags in WAYS.items()
    if (weight.TILES[torch.float32], weight.ONEDNN) >= flags
}


@pytest.mark.parametrize("way", HERE)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_by_hand_equal_torchs_forwards_and_backwards(
    cell: Cell, layers: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles, onednn = HERE[way]
    monkeypatch.setitem(weight.TILES, torch.float32, tiles)
    monkeypatch.setattr(weight, "ONEDNN", onednn)
    model = build(cell, layers)
    differences = farthest(results(model, by_hand=False), results(model, by_hand=True))
    # Sums of float32 in another order, through a few steps: some units of 6e-8 each.
    assert max(differences.values()) < 5e-6, differences


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_rows_shared_among_threads_come_to_the_same(
    cell: Cell, count: int, threads: Callable[[int], None]
) -> None:
    N, model = 3 * threads_module.LEAST + 2, build(cell, 2)
    expected = results(model, by_hand=False, N=N)
    threads(count)
    assert threads_module.share_of(N) == -(-N // count)
    differences = farthest(expected, results(model, by_hand=True, N=N))
    assert max(differences.values()) < 5e-6, differences


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_an_explosion_is_seen(cell: Cell, precision: Precision, bad: float) -> None:
    model = build(cell, 1)
    model.precision = precision
    with torch.no_grad():
        model.recurrent.get_parameter("weight_hh_l0")[0, 0] = bad
    logits, _ = model(torch.randint(V, (T, N)), model.zero_state(N))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(V, (T * N,)))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert not all(bool(g.isfinite().all()) for g in (loss, *gradients))


@pytest.mark.parametrize("cell", CELLS)
def test_bf16_products_stay_near_and_are_not_fp32(cell: Cell) -> None:
    model = build(cell, 2)
    exact = results(model, by_hand=True)
    model.precision = "bf16"
    differences = farthest(exact, results(model, by_hand=True))
    # bfloat16 keeps 8 bits, 0.4 %; a product of sums and a few steps add up to a few times that.
    assert 1e-4 < max(differences.values()) < 0.05, differences


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_window_by_window_with_the_state_carried_is_the_whole(
    cell: Cell, precision: Precision
) -> None:
    model = build(cell, 2)
    model.precision = precision
    tokens, state = torch.randint(V, (T, N)), model.zero_state(N)
    whole, _ = model(tokens, state)
    parts = []
    for window in torch.split(tokens, 2):
        logits, state = model(window, state)
        parts.append(logits)
    # The gates' rows are the same products; only the decoder's has other shapes.
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_can_be_asked_for_twice(cell: Cell) -> None:
    model = build(cell, 2)
    logits, _ = model(torch.randint(V, (T, N)), model.zero_state(N))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(V, (T * N,)))
    weights = list(model.parameters())
    first = torch.autograd.grad(loss, weights, retain_graph=True)
    second = torch.autograd.grad(loss, weights)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(bool(gradient.any()) for gradient in first)


@pytest.mark.parametrize("cell", CELLS)
def test_weight_dropout_drops_recurrent_weights_in_training_only(cell: Cell) -> None:
    model = build(cell, 2, weight_dropout=0.5)
    torch.manual_seed(3)
    dropped = model._weights(model.networks[0])
    for name, whole in model.recurrent.named_parameters():
        kept, scale = dropped[name] != 0, 2 if name.startswith("weight_hh") else 1
        torch.testing.assert_close(dropped[name][kept], scale * whole[kept])
        share = float(kept.float().mean())
        assert (0.1 < share < 0.9) if name.startswith("weight_hh") else share == 1
    tokens, state = torch.randint(V, (T, N)), model.zero_state(N)
    assert not torch.equal(model(tokens, state)[0], model(tokens, state)[0])
    model.eval()
    assert torch.equal(model(tokens, state)[0], model(tokens, state)[0])


def test_the_same_weights_are_dropped_at_every_step_of_a_window() -> None:
    model = build("gru", 1, weight_dropout=0.5)
    tokens = torch.randint(V, (1, N)).expand(T, N)
    torch.manual_seed(3)
    dropped = model._weights(model.networks[0])
    torch.manual_seed(3)
    found, _ = model._run_by_hand(model.networks[0], tokens, model.zero_state(N))
    model.eval()
    model.load_state_dict({f"recurrent.{name}": w for name, w in dropped.items()}, strict=False)
    expected, _ = model._run_torch(model.networks[0], tokens, model.zero_state(N))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_share_that_fails_fails_the_whole_and_the_callers_threads_stay(
    threads: Callable[[int], None],
) -> None:
    threads(2)
    seen = []

    def work(first: int, last: int) -> None:
        seen.append((first, last, torch.get_num_threads()))
        if first:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads_module.share(40, work)
    assert sorted(seen) == [(0, 20, 1), (20, 40, 1)]
    assert torch.get_num_threads() == 2


def test_precisions_that_the_device_does_not_have_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DeviceError, match=r"tf32.*--precision fp32"):
        resolve_precision("tf32", "cpu")
    for capability, meant in (("avx512_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", {capability: True}.copy)
        assert resolve_precision("auto", "cpu") == meant
        assert resolve_precision("fp32", "cpu") == "fp32"
    with pytest.raises(DeviceError, match="multiplies no bfloat16 natively"):
        resolve_precision("bf16", "cpu")
