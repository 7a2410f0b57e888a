"""The trainer of `unroll train`, at a size and on a text of the benchmark's."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from training.data.corpus import Corpus
from training.data.prepared import prepare_data
from training.log.progress import Reporter
from training.model.device import Precision
from training.model.model import CharRNN
from training.presets import preset_settings
from training.run.folder import RunFolder
from training.run.trainer import Trainer
from training.settings import TrainingSettings

SLOWLY = 1e-4  # a learning rate at which no model explodes on a random text


def random_corpus(vocabulary_size: int, symbols: int) -> Corpus:
    """Make a text of V symbols drawn at random, always the same."""
    ids = np.random.default_rng(25).integers(0, vocabulary_size, symbols)
    ids[:vocabulary_size] = np.arange(vocabulary_size)
    text = "".join(chr(33 + i) for i in ids)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Corpus.of(name="none: random symbols", text=text, sha256=sha256)


def batch_settings(model: CharRNN, streams: int, window: int) -> TrainingSettings:
    """Return the trainer's own settings for a batch of streams."""
    return TrainingSettings(
        **_of_model(model),
        streams=streams,
        window=window,
        learning_rate=SLOWLY,
        schedule="constant",
    )


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

    Args:
        settings: of the training.
        model: is trained in place.
        corpus: what to train on.
        precision: of products.
    """
    model.precision = precision
    model.train()
    data = prepare_data(corpus, settings)
    with TemporaryDirectory() as folder:
        reporter = Reporter(Console(file=io.StringIO()))
        training = Trainer(settings, model, data, RunFolder(Path(folder)), reporter)
        with training.recorder:
            yield training
