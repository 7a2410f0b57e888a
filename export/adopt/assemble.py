"""From a model's parts to a checkpoint of ours, and to a model of torch's own modules."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.adopt.parts import Parts
from training.model.model import ModelSettings
from unroll.errors import AdoptionError

BIASES = ("bias_ih", "bias_hh")


def model_settings(parts: Parts) -> ModelSettings:
    """Return the sizes of a model."""
    return ModelSettings(
        cell=parts.cell,
        vocabulary_size=len(parts.decoder),
        embedding_size=parts.embedding_size,
        hidden_size=parts.hidden_size,
        layers=len(parts.layers),
    )


def assemble(parts: Parts) -> dict[str, Tensor]:
    """Return the weights under our names, in float32: what is absent becomes zero or identity.

    Raises:
        AdoptionError: a weight is not finite.
    """
    V = len(parts.decoder)
    weights = {
        "embedding.weight": torch.eye(V) if parts.embedding is None else parts.embedding,
        "decoder.weight": parts.decoder,
        "decoder.bias": torch.zeros(V) if parts.decoder_bias is None else parts.decoder_bias,
    }
    for place, layer in enumerate(parts.layers):
        none = torch.zeros(len(layer["weight_hh"]))
        both = dict.fromkeys(BIASES, none) | layer
        weights |= {f"recurrent.{name}_l{place}": tensor for name, tensor in both.items()}
    made = {name: tensor.detach().cpu().float().clone() for name, tensor in weights.items()}
    for name, tensor in made.items():
        if not bool(tensor.isfinite().all()):
            raise AdoptionError(f"{name}: holds numbers that are not finite; the training exploded")
    return made


class Reference(nn.Module):
    """The parts as torch's own modules compute them; nothing of ours is in it.

    Args:
        parts: of a model.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.embedding = parts.embedding
        sizes = (parts.embedding_size, parts.hidden_size, len(parts.layers))
        has_biases = "bias_ih" in parts.layers[0]
        self.layers: nn.RNNBase
        match parts.cell:
            case "gru":
                self.layers = nn.GRU(*sizes, bias=has_biases)
            case "lstm":
                self.layers = nn.LSTM(*sizes, bias=has_biases)
            case _:
                kind = parts.cell.removeprefix("rnn_")
                self.layers = nn.RNN(*sizes, nonlinearity=kind, bias=has_biases)
        self.layers.load_state_dict(_numbered(parts.layers))
        self.decoder, self.decoder_bias = parts.decoder.float(), parts.decoder_bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (T, V) after each token id (T,), from the zero state."""
        x = F.one_hot(tokens, len(self.decoder)).float()
        if self.embedding is not None:
            x = F.embedding(tokens, self.embedding.float())
        outputs, _ = self.layers(x)
        bias = None if self.decoder_bias is None else self.decoder_bias.float()
        return F.linear(outputs, self.decoder, bias)


def _numbered(layers: list[dict[str, Tensor]]) -> Mapping[str, Tensor]:
    return {
        f"{name}_l{place}": tensor.float()
        for place, layer in enumerate(layers)
        for name, tensor in layer.items()
    }
