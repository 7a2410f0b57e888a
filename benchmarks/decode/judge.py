"""What 8 bits lose, in nats a symbol, on a text that the model itself wrote."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.decode.peers.peer import Tokens, read_after_start
from benchmarks.decode.text import text_without_ties
from training.model.model import CharRNN

STEPS, ROWS = 48, 200
Reader = Callable[[Tokens], NDArray[Any]]
"""Gives the log-probabilities of a text's symbols, (T, N), read from the zero state."""


class Judge:
    """Judges what reads like a model; each by its name only once."""

    def __init__(self, model: CharRNN) -> None:
        self._model = model
        self._known: dict[str, float] = {}

    def loss(self, name: str, read: Reader) -> float:
        """Return by how much a symbol costs more than in float32; below 0, less."""
        if name not in self._known:
            self._known[name] = _nats(read(self._text)) - self._full
        return self._known[name]

    @cached_property
    def _text(self) -> Tokens:
        return np.ascontiguousarray(text_without_ties(self._model, STEPS, ROWS).tokens)

    @cached_property
    @torch.inference_mode()
    def _full(self) -> float:
        tokens = torch.from_numpy(read_after_start(self._text))
        logits, _ = self._model(tokens, self._model.zero_state(ROWS))
        every = torch.log_softmax(logits, -1)
        return _nats(every.gather(-1, torch.from_numpy(self._text)[..., None]).numpy())


def _nats(log_probs: NDArray[Any]) -> float:
    return -float(log_probs.mean(dtype=np.float64))
