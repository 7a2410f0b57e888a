"""Models that the loop in C++ is compared on, and when it can be."""

import os
from pathlib import Path

import numpy as np
import pytest

from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.runtime.native import library
from tests.conftest import TINY_SYMBOLS, export_briefly
from training.run.checkpoint import Checkpoint
from unroll.bundle.folder import Bundle

V = len(TINY_SYMBOLS)
SETS = tuple(library.LANES)  # of instructions
needs_kernels = pytest.mark.skipif(
    not library.LIBRARY.exists() and os.environ.get("REQUIRE_KERNELS") != "1",
    reason="`make kernels` was not run",
)


def random_texts(vocabulary_size: int = V) -> Texts:
    """Make up what int8 is calibrated and judged on."""
    ids = np.random.default_rng(8).integers(0, vocabulary_size, 4000)
    return Texts(training=ids[:2000], validation=ids[2000:])


def compiled(checkpoint: Checkpoint, precision: str, folder: Path) -> Bundle:
    """Compile a model."""
    texts = random_texts(len(checkpoint.vocabulary)) if precision == "int8" else None
    return export_briefly(checkpoint, folder, precision=Precision(precision), texts=texts)
