"""Bundles of lower precisions, and the texts that they are judged on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.runtime.onnx import Device
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
from training.data.corpus.corpus import load_corpus
from training.run.checkpoint import Checkpoint
from training.settings import Cell
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import Rung

V = len(TINY_SYMBOLS)


def own_texts(checkpoint: Checkpoint, symbols: int = 4000) -> Texts:
    """Let a model write the texts that it is judged on: none is likelier under its weights."""
    model, state = checkpoint.model(), None
    torch.manual_seed(5)
    token, written = torch.zeros(1, 20, dtype=torch.int64), []
    with torch.inference_mode():
        state = model.zero_state(20)
        for _ in range(symbols // 10):
            logits, state = model(token, state)
            token = torch.multinomial(torch.softmax(logits[0], -1), 1).T
            written.append(token[0].numpy())
    ids = np.stack(written, 1).ravel()
    return Texts(training=ids[:symbols], validation=ids[symbols:])


def compiled(
    cell: Cell, folder: Path, precision: Precision, device: Device = Device.CPU, hidden: int = 7
) -> Bundle:
    """Compile a tiny model."""
    checkpoint = tiny_checkpoint(cell, hidden_size=hidden)
    texts = own_texts(checkpoint)
    return export_briefly(checkpoint, folder, device=device, precision=precision, texts=texts)


def least(rung: Rung) -> float:
    """Return the least that a rung can be: a loss may be better by chance, errors have no sign."""
    return -rung.limit if rung.name == "quality: validation loss" else 0.0


Make = Callable[..., Bundle]


def casebook_checkpoint(validation_fraction: float = 0.1) -> Checkpoint:
    """Make a checkpoint that says it was trained on the bundled text."""
    checkpoint, corpus = tiny_checkpoint("gru"), load_corpus("casebook")
    return replace(
        checkpoint,
        vocabulary=corpus.vocabulary,
        corpus_sha256=corpus.sha256,
        training_settings=replace(
            checkpoint.training_settings,
            corpus="casebook",
            validation_fraction=validation_fraction,
        ),
    )
