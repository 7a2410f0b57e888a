"""Models of random weights by name, and their bundles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch

from export.compiler import export
from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.runtime.onnx import Device
from training.log.metrics import Metrics
from training.model.model import CELLS, CharRNN, ModelSettings
from training.run.checkpoint import Checkpoint
from training.settings import TrainingSettings
from unroll.bundle.folder import Bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import SettingsError

GRID = ("gru-512x1", "gru-512x3", "lstm-512x2", "rnn_tanh-512x3")
JUDGED_ON = 20_000  # symbols
EMBEDDING = 64


def random_checkpoint(name: str, vocabulary_size: int) -> Checkpoint:
    """Make a checkpoint of random weights, always the same ones.

    Args:
        name: CELL-HIDDENxLAYERS.
        vocabulary_size: symbols V.

    Raises:
        SettingsError: the name is not of that form.
    """
    model = model_settings(name, vocabulary_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(25)
        weights = CharRNN(model).state_dict()
    weights["decoder.weight"] *= 5  # the text of a flat distribution would hide differences
    symbols = "".join(chr(33 + i) for i in range(vocabulary_size))
    return Checkpoint(
        model_settings=model,
        training_settings=TrainingSettings(),
        vocabulary=Vocabulary(symbols, symbols[0]),
        corpus_name="none: random weights",
        corpus_sha256="0" * 64,
        metrics=Metrics(update=0, epoch=0, training_loss=0.0, validation_loss=None, seconds=0.0),
        weights=weights,
    )


def model_settings(name: str, vocabulary_size: int) -> ModelSettings:
    """Read a model's name.

    Raises:
        SettingsError: it is not CELL-HIDDENxLAYERS with a known cell.
    """
    try:
        cell, sizes = name.split("-")
        hidden_size, layers = map(int, sizes.split("x"))
        return ModelSettings(
            cell=next(known for known in CELLS if known == cell),
            vocabulary_size=vocabulary_size,
            embedding_size=EMBEDDING,
            hidden_size=hidden_size,
            layers=layers,
        )
    except (ValueError, StopIteration) as error:
        raise SettingsError(
            f"model = {name!r}: must be CELL-HIDDENxLAYERS, such as gru-512x1, the cell one of "
            f"{', '.join(CELLS)}"
        ) from error


@contextmanager
def exported(
    checkpoint: Checkpoint, precision: Literal["fp32", "int8", "fp16"], device: Device = Device.CPU
) -> Iterator[Bundle]:
    """Export a checkpoint into a folder that is gone afterwards."""
    with TemporaryDirectory() as folder:
        yield export(
            checkpoint,
            Path(folder) / "bundle",
            device=device,
            precision=Precision(precision),
            texts=None if precision == "fp32" else _random_texts(checkpoint),
        )


def _random_texts(checkpoint: Checkpoint) -> Texts:
    """Make up what a lower precision is calibrated and judged on: the weights mean nothing."""
    V = len(checkpoint.vocabulary)
    ids = np.random.default_rng(25).integers(0, V, 2 * JUDGED_ON)
    return Texts(training=ids[:JUDGED_ON], validation=ids[JUDGED_ON:])
