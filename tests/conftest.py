"""Shared fixtures: real tiny bundles, one a cell, compiled from random weights."""

from pathlib import Path

import pytest
import torch

from export.compiler import export
from serving.runtime import Device
from serving.vocabulary import Vocabulary
from training.checkpoint import Checkpoint
from training.metrics import Metrics
from training.model import CELLS, CharRNN, ModelSettings
from training.settings import Cell, TrainingSettings

torch.set_num_threads(1)  # on a busy machine, two spend their time waiting for each other

TINY_SYMBOLS = "\n abcdefgh£"  # V = 11


def tiny_checkpoint(
    cell: Cell, *, hidden_size: int = 7, layers: int = 3, members: int = 1
) -> Checkpoint:
    """Make a checkpoint of random weights, large enough that texts are neither flat nor stuck.

    V = 11, E = 5, H = 7 and L = 3 are pairwise distinct, so that a swapped axis cannot pass.
    """
    settings = ModelSettings(
        cell=cell,
        vocabulary_size=len(TINY_SYMBOLS),
        embedding_size=5,
        hidden_size=hidden_size,
        layers=layers,
        members=members,
    )
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, cell)) + hidden_size)
        model = CharRNN(settings)
        with torch.no_grad():
            model.decoder.weight.mul_(5)
    return Checkpoint(
        model_settings=settings,
        training_settings=TrainingSettings(cell=cell, epochs=1),
        vocabulary=Vocabulary(TINY_SYMBOLS, "\n"),
        corpus_name="tiny",
        corpus_sha256="0" * 64,
        metrics=Metrics(update=0, epoch=0, training_loss=2.5, validation_loss=2.375, seconds=0.0),
        weights=model.state_dict(),
    )


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Path]:
    """One bundle a cell."""
    folder = tmp_path_factory.mktemp("bundles")
    for cell in CELLS:
        export(tiny_checkpoint(cell), folder / cell)
    return {cell: folder / cell for cell in CELLS}


@pytest.fixture(scope="session")
def cuda_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Path]:
    """One bundle a cell, exported for CUDA; they serve on the CPU as well."""
    folder = tmp_path_factory.mktemp("cuda_bundles")
    for cell in CELLS:
        export(tiny_checkpoint(cell), folder / cell, device=Device.CUDA)
    return {cell: folder / cell for cell in CELLS}
