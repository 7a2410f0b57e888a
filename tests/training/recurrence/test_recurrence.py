"""The layers written out by hand, beside torch's own."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.model.device import Precision, resolve_precision
from training.model.model import CELLS, CharRNN, ModelSettings, State
from training.recurrence import threads as threads_module
from training.recurrence import weight
from training.settings import Cell
from unroll.errors import DeviceError

V, E, H, N, T = 7, 3, 6, 4, 6  # tiles multiply pairs of bfloat16, so H is even
Results = tuple[Tensor, State, dict[str, Tensor]]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Give torch another number of threads, for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def build(cell: Cell, layers: int, **changes: Any) -> CharRNN:
    torch.manual_seed(zlib.crc32(cell.encode()))
    settings = {"vocabulary_size": V, "embedding_size": E, "hidden_size": H} | changes
    return CharRNN(ModelSettings(cell=cell, layers=layers, **settings))


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


def farthest(a: Results, b: Results, order: float = torch.inf) -> dict[str, float]:
    """The difference of each tensor relative to it, in a norm: by default, the greatest numbers."""
    pairs = {"outputs": (a[0], b[0])}
    pairs |= {f"after {name}": (a[1][name], b[1][name]) for name in a[1]}
    pairs |= {name: (a[2][name], b[2][name]) for name in a[2]}
    return {
        name: float((x - y).detach().flatten().norm(order) / x.detach().flatten().norm(order))
        for name, (x, y) in pairs.items()
    }


def multiply_by(way: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose among the products that this processor and this torch have."""
    has = {"tiles": weight.TILES[dtype], "oneDNN": weight.ONEDNN, "torch": True}
    if not has[way]:
        pytest.skip(f"no products of {way} here")
    monkeypatch.setitem(weight.TILES, dtype, way == "tiles")
    monkeypatch.setattr(weight, "ONEDNN", way == "oneDNN")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["tiles", "oneDNN", "torch"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_by_hand_equal_torchs_forwards_and_backwards(
    cell: Cell, layers: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply_by(way, torch.float32, monkeypatch)
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


@pytest.mark.slow
@pytest.mark.skipif(not all(weight.TILES.values()), reason="a processor without all tiles")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_with_tiles_a_row_comes_to_the_same_bits_whoever_is_beside_it(
    cell: Cell, precision: Precision, threads: Callable[[int], None]
) -> None:
    rows, model = 2 * threads_module.LEAST + 3, build(cell, 2)
    model.precision = precision
    outputs, after, _ = results(model, by_hand=True, N=rows)
    threads(2)
    shared, after_shared, _ = results(model, by_hand=True, N=rows)
    assert torch.equal(outputs, shared)
    assert all(torch.equal(after[name], after_shared[name]) for name in after)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "way"),
    [
        *((cell, "tiles") for cell in CELLS),
        ("gru", "oneDNN"),
        ("lstm", "oneDNN"),
        ("lstm", "torch"),
    ],
)
def test_bf16_products_stay_near_and_are_not_fp32(
    cell: Cell, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply_by(way, torch.bfloat16, monkeypatch)
    model = build(cell, 2, hidden_size=64)
    exact = results(model, by_hand=True)
    model.precision = "bf16"
    differences = farthest(exact, results(model, by_hand=True), order=2)
    # bfloat16 keeps 8 bits, 0.4 %; a product of sums and a few steps add up to a few times that.
    # A unit of a ReLU that is almost zero may come out on the other side, with another gradient.
    of_gradients = 0.25 if cell == "rnn_relu" else 0.05
    assert 1e-4 < max(differences["outputs"], differences["after h"]) < 0.05, differences
    assert max(differences.values()) < of_gradients, differences


@pytest.mark.slow
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
    with pytest.raises(DeviceError, match="has no native bfloat16 products"):
        resolve_precision("bf16", "cpu")
