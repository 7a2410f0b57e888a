"""Dropout by a function of the place: as random as it says, the same on the way back."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from training.recurrence.dropout import dropout

SHAPE = (64, 96, 128)
COUNT = 64 * 96 * 128
SIGMA = 5  # of a binomial count; one in two million tests would fail by chance, but the seed is set


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.manual_seed(25)
    yield
    torch.set_num_threads(before)


def dropped(probability: float, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return dropout(torch.ones(shape), probability) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.001, 0.3, 0.5, 0.9])
def test_so_many_are_dropped_and_the_mean_stays(probability: float, dtype: torch.dtype) -> None:
    out = dropout(torch.ones(SHAPE, dtype=dtype), probability)
    share = float((out == 0).float().mean())
    assert abs(share - probability) < SIGMA * (probability * (1 - probability) / COUNT) ** 0.5
    expected = torch.tensor(1 / (1 - probability)).to(dtype)
    assert set(out.flatten().tolist()) == {0.0, float(expected)}


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_rounding_on_the_way_is_rounding_afterwards(probability: float) -> None:
    x = torch.randn(64, 96, requires_grad=True)
    torch.manual_seed(25)
    exact = dropout(x, probability)
    torch.manual_seed(25)
    rounded = dropout(x, probability, torch.bfloat16)
    assert torch.equal(rounded, exact.bfloat16())
    gradient = torch.randn(64, 96).bfloat16()
    (of_exact,) = torch.autograd.grad(exact, x, gradient.float())
    (of_rounded,) = torch.autograd.grad(rounded, x, gradient)
    assert of_rounded.dtype == torch.float32
    assert torch.equal(of_rounded, of_exact)


def test_none_is_dropped_at_zero() -> None:
    x = torch.randn(3, 5)
    assert dropout(x, 0.0) is x


@pytest.mark.parametrize("distance", [1, 2, 64, 128, 96 * 128])
def test_neighbours_fall_independently(distance: int) -> None:
    p, fate = 0.3, dropped(0.3).flatten()
    both = float((fate[:-distance] & fate[distance:]).float().mean())
    assert abs(both - p * p) < SIGMA * (p * p * (1 - p * p) / COUNT) ** 0.5 * 2


def test_calls_fall_independently_and_follow_torchs_seed() -> None:
    p = 0.3
    first, second = dropped(p), dropped(p)
    both = float((first & second).float().mean())
    assert abs(both - p * p) < SIGMA * (p * p * (1 - p * p) / COUNT) ** 0.5
    torch.manual_seed(25)
    assert torch.equal(dropped(p), first)
    assert torch.equal(dropped(p), second)


def test_columns_and_rows_are_dropped_alike() -> None:
    p, fate = 0.3, dropped(0.3).float()
    for dimension in range(3):
        others = [d for d in range(3) if d != dimension]
        shares, each = fate.mean(others), COUNT / SHAPE[dimension]
        assert float((shares - p).abs().max()) < SIGMA * (p * (1 - p) / each) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_backward_pass_drops_the_same(dtype: torch.dtype) -> None:
    x = torch.randn(40, 6, 7).to(dtype).requires_grad_()
    upstream = torch.randn(40, 6, 7).to(dtype)
    out = dropout(x, 0.4)
    (gradient,) = torch.autograd.grad(out, x, upstream)
    kept = out != 0
    assert 0.5 < float(kept.float().mean()) < 0.7
    scale = torch.tensor(1 / 0.6)
    torch.testing.assert_close(gradient, torch.where(kept, upstream * scale, 0).to(dtype))
    torch.testing.assert_close(out, torch.where(kept, x * scale, 0).to(dtype))


def test_threads_change_nothing() -> None:
    masks = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(7)
        masks.append(dropped(0.5))
    assert all(torch.equal(masks[0], mask) for mask in masks)
