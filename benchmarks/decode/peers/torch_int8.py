"""torch in 8 bits: its dynamically quantised GRU, LSTM and Linear, one step a call."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.decode.peers.peer import (
    NotRunError,
    Quantised,
    QuantisedPeer,
    QuantisedSetup,
    Tokens,
    Work,
    read_after_start,
)
from benchmarks.decode.peers.torch_steps import draw_in_torch, one_step_a_call
from training.model.model import CharRNN

QUANTISED = {nn.GRU, nn.LSTM, nn.Linear}


class Layers(nn.Module):
    """A model's parts as torch's own modules, which is what it quantises."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self.embedding, self.recurrent, self.decoder = (
            model.embedding,
            model.recurrent,
            model.decoder,
        )

    def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read tokens, (T, N); returns logits, (T, N, V), and the state."""
        outputs, state = self.recurrent(self.embedding(tokens), state)
        return self.decoder(outputs), state


def dynamic(engine: str) -> QuantisedSetup:
    """Quantise for one of torch's engines."""

    def setup(work: Work) -> Quantised:
        if work.weights.cell.startswith("rnn"):
            raise NotRunError("torch has GRU and LSTM in 8 bits, and no RNN")
        if engine not in torch.backends.quantized.supported_engines:
            raise NotRunError(f"this build of torch has no engine {engine}")
        torch.backends.quantized.engine = engine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantize_dynamic moves to another package one day
            quantize: Any = torch.ao.quantization.quantize_dynamic
            layers = quantize(Layers(work.model), QUANTISED)
        zeros = work.model.zero_state(work.uniform.shape[1])

        def step(token: Tensor, u: Tensor, state: Any) -> tuple[Tensor, Any]:
            logits, state = layers(token[None], state)
            return draw_in_torch(logits[0], u), state

        @torch.inference_mode()
        def log_probs(text: Tokens) -> Any:
            tokens = torch.from_numpy(read_after_start(text))
            logits, _ = layers(tokens, _packed(work.model.zero_state(text.shape[1])))
            every = torch.log_softmax(logits, -1)
            return every.gather(-1, torch.from_numpy(text)[..., None])[..., 0].numpy()

        return Quantised(write=one_step_a_call(step, _packed(zeros), work), log_probs=log_probs)

    return setup


def _packed(state: dict[str, Tensor]) -> Any:
    """Bring a state into the form of torch's layers."""
    return tuple(state.values()) if len(state) > 1 else state["h"]


TORCH_INT8: QuantisedPeer = {engine: dynamic(engine) for engine in ("x86", "onednn")}
