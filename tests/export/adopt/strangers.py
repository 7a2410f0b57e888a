"""Models as other people write them; nothing here knows of unroll."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CharRNN(nn.Module):
    """char-rnn's heirs: one-hot symbols, an LSTM that takes the batch first, dropout, `fc`."""

    def __init__(self, tokens: str, n_hidden: int = 9, n_layers: int = 2) -> None:
        super().__init__()
        self.chars = tokens
        self.n_hidden, self.n_layers = n_hidden, n_layers
        self.lstm = nn.LSTM(len(tokens), n_hidden, n_layers, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(n_hidden, len(tokens))

    def forward(self, x: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        r_output, hidden = self.lstm(x, hidden)
        out = self.dropout(r_output).contiguous().view(-1, self.n_hidden)
        return self.fc(out), hidden


class NanoRNN(nn.Module):
    """nanoGPT's manner: a ModuleDict, tied weights, `lm_head`, targets, the last logits alone."""

    def __init__(self, vocab_size: int, n_embd: int = 8, n_layer: int = 2) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd),
                "drop": nn.Dropout(0.1),
                "rnn": nn.GRU(n_embd, n_embd, n_layer, batch_first=True),
            }
        )
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.transformer["drop"](self.transformer["wte"](idx))
        x, _ = self.transformer["rnn"](x)
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


class StepRNN(nn.Module):
    """One symbol a call, as in "practical PyTorch": encoder, gru, decoder, init_hidden."""

    def __init__(self, input_size: int, hidden_size: int = 9, n_layers: int = 2) -> None:
        super().__init__()
        self.hidden_size, self.n_layers = hidden_size, n_layers
        self.encoder = nn.Embedding(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, n_layers)
        self.decoder = nn.Linear(hidden_size, input_size)

    def forward(self, input: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(input)
        output, hidden = self.gru(encoded.view(1, input.size(0), -1), hidden)
        return self.decoder(output.view(input.size(0), -1)), hidden


class CellRNN(nn.Module):
    """Cells in a list and a loop by hand; log-probabilities come out."""

    def __init__(self, V: int, E: int = 5, H: int = 7) -> None:
        super().__init__()
        self.emb = nn.Embedding(V, E)
        self.cells = nn.ModuleList([nn.LSTMCell(E, H), nn.LSTMCell(H, H)])
        self.out = nn.Linear(H, V)

    def forward(self, tokens: Tensor) -> Tensor:  # (N, T)
        states: list[Any] = [None, None]
        outputs = []
        first, second = self.cells
        for x in self.emb(tokens).unbind(1):
            states = [first(x, states[0]), states[1]]
            states[1] = second(states[0][0], states[1])
            outputs.append(F.log_softmax(self.out(states[1][0]), -1))
        return torch.stack(outputs, 1)


class PlainRNN(nn.Module):
    """Any stack, with names and shapes to choose."""

    def __init__(
        self,
        V: int,
        kind: type[nn.RNN | nn.GRU | nn.LSTM] = nn.RNN,
        E: int = 5,
        H: int = 7,
        **options: Any,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, E)
        self.rnn = kind(E, H, **options)
        width = (options.get("proj_size") or H) * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(width, V, bias=options.get("bias", True))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.rnn(self.embed(x))[0])
        return logits


class Squashed(PlainRNN):
    """With an activation that no weight shows."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(2 * self.rnn(self.embed(x))[0]))
        return logits


class KeepsState(PlainRNN):
    """Its state is an attribute; logits come as cross_entropy wants them, (N, V, T)."""

    hidden: Any = None

    def forward(self, x: Tensor) -> Tensor:
        output, self.hidden = self.rnn(self.embed(x), self.hidden)
        logits: Tensor = self.head(output)
        return logits.transpose(1, 2)


class ReadsOneHot(nn.Module):
    """One-hot symbols through a linear layer; h and c apart; a dictionary comes out."""

    def __init__(self, V: int) -> None:
        super().__init__()
        self.inp = nn.Linear(V, 5)
        self.rnn = nn.LSTM(5, 7)
        self.out = nn.Linear(7, V)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> dict[str, Tensor]:
        output, _ = self.rnn(self.inp(x), (h, c))
        return {"logits": self.out(output)}


class Odd(PlainRNN):
    """Called as no other is."""

    def forward(self, x: Tensor, scale: float, *, verbose: bool) -> Any:  # type: ignore[override]
        return {"logits": super().forward(x)}


class Attentive(PlainRNN):
    """With attention over what was read."""

    def __init__(self, V: int) -> None:
        super().__init__(V, nn.GRU)
        self.attn = nn.MultiheadAttention(7, 1)


class Convolved(PlainRNN):
    """With a convolution before the layers."""

    def __init__(self, V: int) -> None:
        super().__init__(V, nn.GRU)
        self.conv1 = nn.Conv1d(5, 5, 3)


class Normalised(PlainRNN):
    """With a normalisation behind the layers."""

    def __init__(self, V: int) -> None:
        super().__init__(V, nn.GRU)
        self.ln_f = nn.LayerNorm(7)


class Twofold(PlainRNN):
    """Two recurrent modules."""

    def __init__(self, V: int) -> None:
        super().__init__(V, nn.GRU)
        self.rnn2 = nn.GRU(7, 7)


class Deep(PlainRNN):
    """Two linear layers behind."""

    def __init__(self, V: int) -> None:
        super().__init__(V, nn.GRU)
        self.hidden = nn.Linear(7, 7)


class Transformer(nn.Module):
    """No recurrent layer at all."""

    def __init__(self, V: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(V, 8)
        self.block = nn.TransformerEncoderLayer(8, 2)
        self.head = nn.Linear(8, V)
