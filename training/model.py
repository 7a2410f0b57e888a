"""The model: embedding, recurrent layers, decoder; its state goes in and comes out."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serving.errors import SettingsError
from training.precision import Precision
from training.recurrence.dropout import dropout
from training.recurrence.stack import run_stack
from training.settings import Cell

State = dict[str, Tensor]
CELLS: tuple[Cell, ...] = ("rnn_tanh", "rnn_relu", "gru", "lstm")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What determines the shape of a model's weights, and its dropout.

    Raises:
        SettingsError: a size is below 1, the cell is unknown or dropout is outside [0, 1).
    """

    cell: Cell
    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    layers: int
    dropout: float = 0.0
    weight_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise SettingsError(f"cell = {self.cell!r}: must be one of {', '.join(CELLS)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise SettingsError(f"{field.name} = {value}: must be at least 1")
            if field.type is float and not 0 <= value < 1:
                raise SettingsError(f"{field.name} = {value}: must be in [0, 1)")


def _recurrent(settings: ModelSettings) -> nn.RNNBase:
    E, H, L = settings.embedding_size, settings.hidden_size, settings.layers
    dropout = settings.dropout if L > 1 else 0.0
    match settings.cell:
        case "gru":
            return nn.GRU(E, H, L, dropout=dropout)
        case "lstm":
            return nn.LSTM(E, H, L, dropout=dropout)
        case "rnn_tanh":
            return nn.RNN(E, H, L, nonlinearity="tanh", dropout=dropout)
        case "rnn_relu":
            return nn.RNN(E, H, L, nonlinearity="relu", dropout=dropout)


class CharRNN(nn.Module):
    """A recurrent language model over symbols.

    Where gradients are wanted on a CPU, in float32, the layers of training/recurrence run, and are
    two to three times as fast as torch's; everywhere else torch's own run, on CUDA those of cuDNN.

    Args:
        settings: its cell and sizes.

    Attributes:
        precision: of products while gradients are recorded; without gradients it is fp32.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.precision: Precision = "fp32"
        self.embedding = nn.Embedding(settings.vocabulary_size, settings.embedding_size)
        self.recurrent = _recurrent(settings)
        self.decoder = nn.Linear(settings.hidden_size, settings.vocabulary_size)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read tokens, from a state to a state.

        Args:
            tokens: token ids, int64, shape (T, N).
            state: `h` and, for an LSTM, `c`, float32, each of shape (L, N, H).

        Returns:
            Logits of each next symbol, shape (T, N, V), and the state after the last one.
        """
        run = self._run_by_hand if self._by_hand() else self._run_torch
        low = torch.is_grad_enabled() and self.precision == "bf16"
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=low):
            outputs, new_state = run(tokens, state)  # (T, N, H)
            logits = F.linear(self._dropped(outputs, self.settings.dropout), self.decoder.weight)
        return logits.to(self.decoder.weight.dtype) + self.decoder.bias, new_state  # (T, N, V)

    def _by_hand(self) -> bool:
        weight = self.decoder.weight
        return torch.is_grad_enabled() and weight.is_cpu and weight.dtype == torch.float32

    def _dropped(self, x: Tensor, probability: float, dtype: torch.dtype | None = None) -> Tensor:
        if not self.training:
            return x
        if self._by_hand():
            return dropout(x, probability, dtype)
        return F.dropout(x, probability)

    def _run_by_hand(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        with torch.autocast("cpu", enabled=False):
            return run_stack(
                self.settings.cell,
                self._weights(dtype),
                self.embedding.weight,
                tokens,
                state,
                dtype=dtype,
                dropout=lambda x: self._dropped(x, self.settings.dropout),
            )

    def _run_torch(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        low = torch.is_grad_enabled() and self.precision == "bf16"

        def rounded(tensor: Tensor) -> Tensor:
            return tensor.bfloat16() if low else tensor

        run = getattr(torch, self.settings.cell)  # what nn.GRU and the others call
        names = ("h", "c") if "c" in state else ("h",)
        hidden = [rounded(state[name]) for name in names]
        # Autocast would have cuDNN's layers run in float16, though bfloat16 was asked for: torch's
        # AutocastRNN.cpp knows no other type.
        with torch.autocast(tokens.device.type, enabled=False):
            outputs, *after = run(
                rounded(self.embedding(tokens)),  # (T, N, E)
                hidden if len(hidden) > 1 else hidden[0],
                [rounded(weight) for weight in self._weights().values()],
                True,  # has biases
                self.settings.layers,
                self.settings.dropout,
                self.training,
                False,  # bidirectional
                False,  # batch first
            )
        new = zip(names, after, strict=True)
        return outputs, {name: tensor.to(state[name].dtype) for name, tensor in new}

    def _weights(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Return the recurrent weights; those that are dropped, of that type.

        In training, `weight_dropout` of the W_hh are dropped, the same ones for the whole window
        (AWD-LSTM: Merity, Keskar and Socher 2018).
        """
        probability = self.settings.weight_dropout
        return {
            name: self._dropped(weight, probability, dtype) if "weight_hh" in name else weight
            for name, weight in self.recurrent.named_parameters()
        }

    def zero_state(self, N: int) -> State:
        """Return the state before the first symbol of N texts: zeros, each (L, N, H)."""
        shape = (self.settings.layers, N, self.settings.hidden_size)
        names = ("h", "c") if self.settings.cell == "lstm" else ("h",)
        weight = self.decoder.weight
        return {
            name: torch.zeros(shape, dtype=weight.dtype, device=weight.device) for name in names
        }


def detach(state: State) -> State:
    """Cut a state off from the graph that made it, so that gradients stop there."""
    return {name: tensor.detach() for name, tensor in state.items()}
