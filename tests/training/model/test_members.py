"""Networks side by side: each is what it would be alone, and the model is their mean."""

import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import tiny_checkpoint
from training.model.initialisation import initialise
from training.model.model import CELLS, CharRNN, ModelSettings, State
from training.recurrence.steps import GRUSteps
from training.run.checkpoint import load_checkpoint, save_checkpoint
from training.settings import Cell

V, E, H, L, N, T = 7, 3, 5, 2, 4, 6


def build(cell: Cell, members: int, **dropout: Any) -> CharRNN:
    torch.manual_seed(zlib.crc32(cell.encode()))
    settings = ModelSettings(
        cell=cell, vocabulary_size=V, embedding_size=E, hidden_size=H, layers=L, members=members,
        **dropout,
    )  # fmt: skip
    return CharRNN(settings)


def alone(model: CharRNN, number: int) -> CharRNN:
    """Build one of the networks as a model of its own."""
    single, network = build(model.settings.cell, 1), model.networks[number]
    with torch.no_grad():
        single.embedding.weight.copy_(network.embedding)
        single.decoder.weight.copy_(network.decoder)
        single.decoder.bias.copy_(model.decoder.bias)
    single.recurrent.load_state_dict(network.recurrent)
    return single


def random_state(model: CharRNN) -> State:
    return {name: torch.randn_like(zero) for name, zero in model.zero_state(N).items()}


def part(state: State, number: int) -> State:
    return {name: tensor[L * number : L * (number + 1)] for name, tensor in state.items()}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("members", [2, 3])
def test_logits_are_the_mean_of_what_each_network_says_alone(cell: Cell, members: int) -> None:
    model = build(cell, members).eval()
    tokens, state = torch.randint(V, (T, N)), random_state(model)
    with torch.no_grad():
        logits, after = model(tokens, state)
        each = [alone(model, i).eval()(tokens, part(state, i)) for i in range(members)]
    assert all(tensor.shape == (members * L, N, H) for tensor in after.values())
    mean = torch.stack([said for said, _ in each]).mean(0)
    torch.testing.assert_close(logits, mean, atol=1e-6, rtol=0)
    for i, (_, own) in enumerate(each):
        for name, tensor in own.items():
            torch.testing.assert_close(part(after, i)[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_each_network_learns_from_its_own_loss(cell: Cell) -> None:
    """As if it were alone, at a share of the rate; the mean's loss would be another one."""
    model = build(cell, 2)
    tokens, targets = torch.randint(V, (T, N)), torch.randint(V, (T, N))
    logits, _ = model(tokens, model.zero_state(N))
    assert logits.shape == (T, 2 * N, V)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.repeat(1, 2).flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    for i, network in enumerate(model.networks):
        single = alone(model, i)
        said, _ = single(tokens, single.zero_state(N))
        torch.testing.assert_close(logits[:, N * i : N * (i + 1)], said, atol=1e-6, rtol=0)
        (F.cross_entropy(said.flatten(0, 1), targets.flatten()) / 2).backward()  # type: ignore[no-untyped-call]
        for name, weight in network.recurrent.items():
            expected = single.recurrent.get_parameter(name).grad
            torch.testing.assert_close(weight.grad, expected, atol=1e-6, rtol=0)
        grad = model.embedding.weight.grad
        assert grad is not None
        expected = single.embedding.weight.grad
        torch.testing.assert_close(grad[:, E * i : E * (i + 1)], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_networks_start_differently_and_on_the_same_scale_as_one_alone(cell: Cell) -> None:
    model, single = build(cell, 2), build(cell, 1)
    initialise(model)
    initialise(single)
    first, second = model.networks
    assert not torch.equal(first.embedding, second.embedding)
    assert not torch.equal(first.decoder, second.decoder)
    largest = (6 / (V + H)) ** 0.5  # Glorot's bound for one network's decoder
    for network in (first, second):
        assert 0.8 * largest < float(network.decoder.detach().abs().max()) <= largest
        for name, weight in single.recurrent.named_parameters():
            own = network.recurrent[name]
            torch.testing.assert_close(own.norm(), weight.norm(), rtol=0.3, atol=1e-6)


def test_a_checkpoint_of_two_networks_is_read_back(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("lstm", members=2)
    save_checkpoint(checkpoint, tmp_path / "two.safetensors")
    read = load_checkpoint(tmp_path / "two.safetensors")
    assert read.model_settings.members == 2
    assert sorted(read.weights) == sorted(checkpoint.weights)
    tokens = torch.randint(V, (T, N))
    before, after = checkpoint.model(), read.model()
    assert torch.equal(
        before(tokens, before.zero_state(N))[0], after(tokens, after.zero_state(N))[0]
    )


def test_networks_in_threads_learn_what_they_learn_in_a_row() -> None:
    """With the same random numbers, so that what is dropped hangs on no thread."""
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        model = build("gru", 2, dropout=0.4, weight_dropout=0.3)
        torch.manual_seed(5)
        tokens, state = torch.randint(V, (T, N)), random_state(model)
        logits, after = model(tokens, state)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.repeat(1, 2).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {name: weight.grad for name, weight in model.named_parameters()}
        results.append((logits, after["h"], gradients))
    for logits, h, gradients in results[1:]:
        torch.testing.assert_close(logits, results[0][0], atol=1e-6, rtol=0)
        torch.testing.assert_close(h, results[0][1], atol=1e-6, rtol=0)
        for name, gradient in gradients.items():
            assert gradient is not None
            assert gradient.any(), name
            torch.testing.assert_close(gradient, results[0][2][name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_network_that_fails_in_its_thread_fails_the_whole(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    model = build("gru", 2)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(GRUSteps, "forward" if way == "there" else "backward", fail)

    def there_and_back() -> None:
        logits, _ = model(torch.zeros((T, N), dtype=torch.int64), model.zero_state(N))
        logits.sum().backward()

    with pytest.raises(ZeroDivisionError):
        there_and_back()
