"""The model, its initial weights, its validation loss and its samples."""

import math
import zlib

import pytest
import torch
from torch.nn import functional as F

from training.model import validation
from training.model.initialisation import RELU_MEMORY, RELU_MEMORY_ABOVE, initialise
from training.model.model import CELLS, CharRNN, ModelSettings, State
from training.model.validation import Limit, validate
from training.settings import Cell
from unroll.errors import SettingsError

V, E, H, L, N, T = 7, 3, 5, 2, 4, 6


def build(cell: Cell, dropout: float = 0.0, layers: int = L) -> CharRNN:
    torch.manual_seed(zlib.crc32(cell.encode()))
    settings = ModelSettings(
        cell=cell,
        vocabulary_size=V,
        embedding_size=E,
        hidden_size=H,
        layers=layers,
        dropout=dropout,
    )
    return CharRNN(settings)


def random_state(model: CharRNN) -> State:
    return {name: torch.randn_like(zero) for name, zero in model.zero_state(N).items()}


@pytest.mark.parametrize("cell", CELLS)
def test_shapes_are_time_first_and_the_state_keeps_its_names(cell: Cell) -> None:
    model = build(cell)
    state = random_state(model)
    logits, after = model(torch.randint(V, (T, N)), state)
    assert logits.shape == (T, N, V)
    assert list(after) == (["h", "c"] if cell == "lstm" else ["h"])
    assert all(tensor.shape == (L, N, H) for tensor in (*state.values(), *after.values()))


@pytest.mark.parametrize("cell", CELLS)
def test_whole_equals_one_symbol_at_a_time_from_any_state(cell: Cell) -> None:
    model = build(cell).eval()
    tokens, state = torch.randint(V, (T, N)), random_state(model)
    whole, whole_state = model(tokens, state)
    steps = []
    for t in range(T):
        logits, state = model(tokens[t : t + 1], state)
        steps.append(logits)
    # Different products are summed in another order; a few units of float32's 6e-8.
    torch.testing.assert_close(torch.cat(steps), whole, atol=1e-6, rtol=0)
    for name, tensor in whole_state.items():
        torch.testing.assert_close(state[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, L])
def test_dropout_acts_in_training_only(cell: Cell, layers: int) -> None:
    model = build(cell, dropout=0.5, layers=layers)
    tokens, state = torch.randint(V, (T, N)), random_state(model)
    (first, first_state), (second, second_state) = model(tokens, state), model(tokens, state)
    assert not torch.equal(first, second)
    assert torch.equal(first_state["h"], second_state["h"]) == (layers == 1)
    model.eval()
    assert torch.equal(model(tokens, state)[0], model(tokens, state)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_initial_recurrent_weights_suit_the_cell(cell: Cell) -> None:
    model = build(cell)
    initialise(model)
    for layer in range(L):
        for gate in model.recurrent.get_parameter(f"weight_hh_l{layer}").split(H):  # type: ignore[no-untyped-call]
            memory = RELU_MEMORY_ABOVE if layer else RELU_MEMORY
            scale = memory if cell == "rnn_relu" else 1.0
            torch.testing.assert_close(gate @ gate.t(), scale**2 * torch.eye(H))
            diagonal = bool((gate == scale * torch.eye(H)).all())
            assert diagonal == (cell == "rnn_relu")


@pytest.mark.parametrize("cell", CELLS)
def test_untrained_stack_is_hardly_worse_than_a_uniform_guess(cell: Cell) -> None:
    torch.manual_seed(25)
    model = CharRNN(
        ModelSettings(cell=cell, vocabulary_size=76, embedding_size=64, hidden_size=63, layers=3)
    )
    initialise(model)
    assert validate(model, torch.randint(76, (500,))).loss < 1.1 * math.log(76)


def test_initial_forget_biases_add_up_to_one_and_the_others_to_zero() -> None:
    model = build("lstm")
    initialise(model)
    for layer in range(L):
        both = [model.recurrent.get_parameter(f"bias_{part}_l{layer}") for part in ("ih", "hh")]
        total = (both[0] + both[1]).detach()
        assert total.tolist() == [0.0] * H + [1.0] * H + [0.0] * 2 * H


@pytest.mark.parametrize("cell", CELLS)
def test_validation_loss_is_that_of_reading_the_text_in_one_go(cell: Cell) -> None:
    model = build(cell, dropout=0.5).train()
    ids = torch.randint(V, (700,))
    found = validate(model, ids).loss
    assert model.training
    model.eval()
    with torch.no_grad():
        logits, _ = model(ids[:-1, None], model.zero_state(1))
    # The same terms summed in another order: float32 carries 2e-7 of a loss near 2.
    assert found == pytest.approx(float(F.cross_entropy(logits[:, 0], ids[1:])), abs=1e-5)


def test_a_training_validates_with_its_own_layers_and_all_else_reads_with_torchs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = build("gru"), torch.randint(V, (50,))
    model.precision = "bf16"  # of gradients alone
    ran: list[str] = []

    def watch(name: str) -> None:
        run = getattr(model, name)

        def watched(*arguments: object) -> object:
            ran.append(name)
            return run(*arguments)

        monkeypatch.setattr(model, name, watched)

    watch("_run_by_hand")
    watch("_run_torch")
    found = validate(model, ids).loss
    assert ran == ["_run_by_hand"]
    with torch.no_grad():
        logits, _ = model.eval()(ids[:-1, None], model.zero_state(1))
    assert ran == ["_run_by_hand", "_run_torch"]
    assert found == pytest.approx(float(F.cross_entropy(logits[:, 0], ids[1:])), abs=1e-5)


def test_long_validation_texts_are_read_in_parallel_streams_with_little_loss() -> None:
    model = build("gru").eval()
    ids = torch.randint(V, (5003,))
    with torch.no_grad():
        logits, _ = model(ids[:-1, None], model.zero_state(1))
    alone = float(F.cross_entropy(logits[:, 0], ids[1:]))
    assert validate(model, ids).loss == pytest.approx(alone, abs=5e-3)


def test_a_limited_validation_reads_the_beginning_of_stretches_spread_over_the_text() -> None:
    model, N, T = build("lstm").eval(), 7, 1100
    ids = torch.randint(V, (N * T + 1,))
    with torch.no_grad():
        rows = ids[:-1].view(N, T).t()
        logits, _ = model(rows[:512], model.zero_state(N))
        expected = F.cross_entropy(logits.flatten(0, 1), rows[1:513].flatten())
    windows = iter([False, True])
    limited = validate(model, ids, is_over=lambda: next(windows))
    assert (limited.steps, limited.symbols) == (512, N * 512)
    assert limited.loss == pytest.approx(float(expected), abs=1e-5)
    assert validate(model, ids, steps=512) == limited
    assert validate(model, ids).steps == T


def test_a_limit_counts_from_the_first_question() -> None:
    now = iter([0.0, 50.0, 50.0, 50.9, 51.0])
    next(now)
    limit = Limit(1.0, lambda: next(now))
    assert [limit(), limit(), limit()] == [False, False, True]


def test_windows_hold_a_bounded_number_of_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the loss nor the state depends on where the text is cut."""
    model, ids = build("gru").eval(), torch.randint(V, (2060,))
    whole = validate(model, ids)
    monkeypatch.setattr(validation, "LOGITS_AT_MOST", 2 * V * 30)
    windows: list[int] = []

    def count(module: torch.nn.Module, read: object, said: tuple[torch.Tensor, object]) -> None:
        windows.append(said[0].numel())

    model.register_forward_hook(count)
    assert validate(model, ids).loss == pytest.approx(whole.loss, abs=1e-6)
    assert len(windows) > 10
    assert max(windows) <= 2 * V * 30


def test_unknown_cells_and_sizes_are_refused() -> None:
    with pytest.raises(SettingsError, match="rnn_tanh, rnn_relu, gru, lstm"):
        ModelSettings(
            cell="elman",  # type: ignore[arg-type]
            vocabulary_size=V,
            embedding_size=E,
            hidden_size=H,
            layers=L,
        )
    with pytest.raises(SettingsError, match="layers = 0"):
        ModelSettings(cell="gru", vocabulary_size=V, embedding_size=E, hidden_size=H, layers=0)
