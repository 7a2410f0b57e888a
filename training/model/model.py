"""The model: embedding, recurrent layers, decoder; its state goes in and comes out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.device import Precision
from training.recurrence.dropout import dropout
from training.recurrence.stack import run_stack
from training.recurrence.threads_apart import run_apart
from training.settings import Cell
from unroll.errors import SettingsError

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
    members: int = 1
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


@dataclass(frozen=True, kw_only=True)
class Network:
    """One of the networks that stand side by side in a model, as views of its weights.

    Attributes:
        embedding: (V, E).
        recurrent: of its layers, under torch's names, `weight_ih_l0` and so on.
        decoder: (V, H).
        random: draws what dropout by hand drops; None is torch's default generator.
    """

    embedding: Tensor
    recurrent: Mapping[str, Tensor]
    decoder: Tensor
    random: torch.Generator | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All of them in a row."""
        return [self.embedding, self.decoder, *self.recurrent.values()]

    def of(self, tensors: Iterable[Tensor], random: torch.Generator) -> "Network":
        """Return the same of other tensors, in the order of `tensors`."""
        embedding, decoder, *recurrent = tensors
        named = dict(zip(self.recurrent, recurrent, strict=True))
        return Network(embedding=embedding, decoder=decoder, recurrent=named, random=random)


class CharRNN(nn.Module):
    """A recurrent language model over symbols.

    It is M networks side by side, mostly one. None sees another's state; each is trained by a loss
    of its own, and what the model says is the mean of their logits, which is the geometric mean of
    their distributions (an ensemble: Hansen and Salamon 1990). docs/notes/experiments.md says what
    that brings.

    Where gradients are wanted on a CPU, in float32, the layers of training/recurrence run, faster
    than torch's; everywhere else torch's own run, on CUDA those of cuDNN.

    Args:
        settings: its cell and sizes.

    Attributes:
        precision: of products while gradients are recorded; without gradients it is fp32.
        compiled: whether the layers of training/recurrence run without gradients, too. By default
            they do not: what the exported model is compared with is torch's own.
        embedding: those of all networks side by side, (V, M * E).
        recurrent: the layers, or a list of M times the layers.
        decoder: the weights of all networks side by side, (V, M * H), and the one bias of all.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.precision: Precision = "fp32"
        self.compiled = False
        M = settings.members
        self.embedding = nn.Embedding(settings.vocabulary_size, M * settings.embedding_size)
        self.recurrent = (
            _recurrent(settings)
            if M == 1
            else nn.ModuleList(_recurrent(settings) for _ in range(M))
        )
        self.decoder = nn.Linear(M * settings.hidden_size, settings.vocabulary_size)

    @property
    def networks(self) -> list[Network]:
        """The M networks."""
        M = self.settings.members
        parts = zip(
            self.embedding.weight.chunk(M, 1),
            [
                dict(part.named_parameters())
                for part in self.recurrent.modules()
                if isinstance(part, nn.RNNBase)
            ],
            self.decoder.weight.chunk(M, 1),
            strict=True,
        )
        return [Network(embedding=e, recurrent=r, decoder=d) for e, r, d in parts]

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read tokens, from a state to a state.

        Args:
            tokens: token ids, int64, shape (T, N).
            state: `h` and, for an LSTM, `c`, float32, each of shape (M * L, N, H): the layers of
                the first network, then those of the next.

        Returns:
            Logits of each next symbol, shape (T, N, V), and the state after the last one. In
            training mode the logits of all networks, (T, M * N, V): N columns of the first one,
            then those of the next; gradients of several networks then end at the state.
        """
        M = self.settings.members
        parts = {name: tensor.chunk(M) for name, tensor in state.items()}
        states = [{name: part[i] for name, part in parts.items()} for i in range(M)]
        if self.training and M > 1:
            logits, states = self._train(tokens, [detach(each) for each in states])
            said = torch.cat(logits, 1)
        else:
            read = [self._read(n, tokens, s) for n, s in zip(self.networks, states, strict=True)]
            said = read[0][0] if M == 1 else torch.stack([logits for logits, _ in read]).mean(0)
            states = [new for _, new in read]
        after = {name: torch.cat([each[name] for each in states]) for name in state}
        return said + self.decoder.bias, after

    def _train(self, tokens: Tensor, states: list[State]) -> tuple[list[Tensor], list[State]]:
        """Have several networks read, by a thread each where all threads get as many of them.

        Each has random numbers of its own, so that they do not depend on the order of threads.
        """
        networks, threads = self.networks, torch.get_num_threads()
        seeds = torch.randint(2**62, (len(networks),)).tolist()
        random = [torch.Generator().manual_seed(seed) for seed in seeds]
        after: list[State] = [{} for _ in networks]

        def read(i: int, tensors: list[Tensor]) -> Tensor:
            logits, new = self._read(networks[i].of(tensors, random[i]), tokens, states[i])
            after[i] = detach(new)
            return logits

        tensors = [network.tensors for network in networks]
        reads = [partial(read, i) for i in range(len(networks))]
        if self._by_hand() and threads > 1 and len(networks) % threads == 0:
            return run_apart(reads, tensors, threads), after
        return [of(own) for of, own in zip(reads, tensors, strict=True)], after

    def _read(self, network: Network, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Have one network read; returns its logits without the bias, and its state."""
        run = self._run_by_hand if self._by_hand() else self._run_torch
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self._low()):
            outputs, new_state = run(network, tokens, state)  # (T, N, H)
            dropped = self._dropped(outputs, self.settings.dropout, random=network.random)
            logits = F.linear(dropped, network.decoder)
        return logits.to(self.decoder.weight.dtype), new_state  # (T, N, V)

    def _by_hand(self) -> bool:
        weight = self.decoder.weight
        wanted = torch.is_grad_enabled() or self.compiled
        return wanted and weight.is_cpu and weight.dtype == torch.float32

    def _low(self) -> bool:
        return torch.is_grad_enabled() and self.precision == "bf16"

    def _dropped(
        self,
        x: Tensor,
        probability: float,
        dtype: torch.dtype | None = None,
        random: torch.Generator | None = None,
    ) -> Tensor:
        if not self.training:
            return x
        if self._by_hand():
            return dropout(x, probability, dtype, random)
        return F.dropout(x, probability)

    def _run_by_hand(self, network: Network, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        dtype = torch.bfloat16 if self._low() else torch.float32
        with torch.autocast("cpu", enabled=False):
            return run_stack(
                self.settings.cell,
                self._weights(network, dtype),
                network.embedding,
                tokens,
                state,
                dtype=dtype,
                dropout=lambda x: self._dropped(x, self.settings.dropout, random=network.random),
            )

    def _run_torch(self, network: Network, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        def rounded(tensor: Tensor) -> Tensor:
            return tensor.bfloat16() if self._low() else tensor

        run = getattr(torch, self.settings.cell)  # what nn.GRU and the others call
        names = ("h", "c") if "c" in state else ("h",)
        hidden = [rounded(state[name]) for name in names]
        # Autocast would have cuDNN's layers run in float16, though bfloat16 was asked for: torch's
        # AutocastRNN.cpp knows no other type.
        with torch.autocast(tokens.device.type, enabled=False):
            outputs, *after = run(
                rounded(F.embedding(tokens, network.embedding)),  # (T, N, E)
                hidden if len(hidden) > 1 else hidden[0],
                [rounded(weight) for weight in self._weights(network).values()],
                True,  # has biases
                self.settings.layers,
                self.settings.dropout,
                self.training,
                False,  # bidirectional
                False,  # batch first
            )
        new = zip(names, after, strict=True)
        return outputs, {name: tensor.to(state[name].dtype) for name, tensor in new}

    def _weights(self, network: Network, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Return a network's recurrent weights; those that are dropped, of that type.

        In training, `weight_dropout` of the W_hh are dropped, the same ones for the whole window
        (AWD-LSTM: Merity, Keskar and Socher 2018).
        """
        probability = self.settings.weight_dropout
        return {
            name: self._dropped(weight, probability, dtype, network.random)
            if "weight_hh" in name
            else weight
            for name, weight in network.recurrent.items()
        }

    def zero_state(self, N: int) -> State:
        """Return the state before the first symbol of N texts: zeros, each (M * L, N, H)."""
        shape = (self.settings.members * self.settings.layers, N, self.settings.hidden_size)
        names = ("h", "c") if self.settings.cell == "lstm" else ("h",)
        weight = self.decoder.weight
        return {
            name: torch.zeros(shape, dtype=weight.dtype, device=weight.device) for name in names
        }


def detach(state: State) -> State:
    """Cut a state off from the graph that made it, so that gradients stop there."""
    return {name: tensor.detach() for name, tensor in state.items()}
