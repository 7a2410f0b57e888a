"""The loops that are compared: torch's as a course writes it, and the trainer of `unroll train`."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.corpus.corpus import Corpus
from training.data.prepared import prepare_data
from training.data.streams import Position, Streams
from training.data.units import Units
from training.log.progress import Reporter
from training.model.device import Precision
from training.model.model import CharRNN
from training.presets import preset_settings
from training.run.folder import RunFolder
from training.run.trainer import Trainer
from training.settings import TrainingSettings

SLOWLY = 1e-4  # a learning rate at which no model explodes on a random text


class TorchLoop:
    """Learns window after window; the state is carried and detached, and zero in a new epoch.

    Args:
        model: in training; its modules are called one by one.
        streams: what to read.
        optimizer: of the model's weights.
        clip: highest norm of the gradient; 0 leaves it as it is.
    """

    def __init__(
        self,
        model: CharRNN,
        streams: Streams | Units,
        optimizer: torch.optim.Optimizer,
        clip: float,
    ) -> None:
        self.model, self.streams, self.optimizer, self.clip = model, streams, optimizer, clip
        self._position = Position()
        self._state: Tensor | tuple[Tensor, Tensor] | None = None

    def update(self) -> float:
        """Learn from the next window; returns its loss in nats per symbol."""
        inputs, targets = self.streams.batch(self._position)  # (T, N) both
        outputs, state = self.model.recurrent(self.model.embedding(inputs), self._state)
        logits = self.model.decoder(outputs)  # (T, N, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self._position = self.streams.after(self._position)
        self._state = _detached(state) if self._position.window else None
        return loss.item()


def _detached(state: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
    if isinstance(state, Tensor):
        return state.detach()
    h, c = state
    return h.detach(), c.detach()


def random_corpus(vocabulary_size: int, symbols: int) -> Corpus:
    """Make a text of V symbols drawn at random, always the same."""
    ids = np.random.default_rng(25).integers(0, vocabulary_size, symbols)
    ids[:vocabulary_size] = np.arange(vocabulary_size)
    text = "".join(chr(33 + i) for i in ids)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Corpus.of(name="none: random symbols", text=text, sha256=sha256)


def batch_settings(model: CharRNN, streams: int, window: int) -> TrainingSettings:
    """Return the trainer's own settings for a batch of streams."""
    sizes = {"streams": streams, "window": window}
    rate = {"learning_rate": SLOWLY, "schedule": "constant"}
    return TrainingSettings(**_of_model(model) | sizes | rate)


def lab_settings(model: CharRNN) -> TrainingSettings:
    """Return the lab's settings (`--preset lab`) for a model: one stream, windows of 50, Adam."""
    return replace(preset_settings("lab"), **_of_model(model))


def _of_model(model: CharRNN) -> dict[str, Any]:
    sizes = ("cell", "embedding_size", "hidden_size", "layers", "dropout")
    never_over = {"epochs": 0, "minutes": 1e6, "warmup_fraction": 0.0}
    whole_text = {"max_symbols": 0, "validation_fraction": 0.0}
    return {name: getattr(model.settings, name) for name in sizes} | never_over | whole_text


@contextmanager
def trainer(
    settings: TrainingSettings, model: CharRNN, corpus: Corpus, precision: Precision
) -> Iterator[Trainer]:
    """Set a training up as the command line does, in a folder that is gone afterwards.

    The model is trained in place; the precision is that of products.
    """
    model.precision = precision
    model.train()
    data = prepare_data(corpus, settings)
    with TemporaryDirectory() as folder:
        reporter = Reporter(Console(file=io.StringIO()))
        training = Trainer(settings, model, data, RunFolder(Path(folder)), reporter)
        with training.recorder:
            yield training
