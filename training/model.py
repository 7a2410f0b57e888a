"""The model: embedding, recurrent layers, decoder; its state goes in and comes out."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from serving.errors import SettingsError
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

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise SettingsError(f"cell = {self.cell!r}: must be one of {', '.join(CELLS)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in {"cell", "dropout"} and value < 1:
                raise SettingsError(f"{field.name} = {value}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout = {self.dropout}: must be in [0, 1)")


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

    Args:
        settings: its cell and sizes.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.vocabulary_size, settings.embedding_size)
        self.recurrent = _recurrent(settings)
        self.dropout = nn.Dropout(settings.dropout)
        self.decoder = nn.Linear(settings.hidden_size, settings.vocabulary_size)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read tokens, from a state to a state.

        Args:
            tokens: token ids, int64, shape (T, N).
            state: `h` and, for an LSTM, `c`, float32, each of shape (L, N, H).

        Returns:
            Logits of each next symbol, shape (T, N, V), and the state after the last one.
        """
        embedded = self.embedding(tokens)  # (T, N, E)
        if "c" in state:
            outputs, (h, c) = self.recurrent(embedded, (state["h"], state["c"]))  # (T, N, H)
            new_state = {"h": h, "c": c}
        else:
            outputs, h = self.recurrent(embedded, state["h"])  # (T, N, H)
            new_state = {"h": h}
        return self.decoder(self.dropout(outputs)), new_state  # (T, N, V)

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
