"""Models that the loop in C++ is compared on, and when it can be."""

import os
from pathlib import Path

import numpy as np

from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.runtime.native import library
from tests.conftest import TINY_SYMBOLS, export_briefly
from training.run.checkpoint import Checkpoint
from unroll.bundle.folder import Bundle

V = len(TINY_SYMBOLS)


IS_REQUIRED = os.environ.get("REQUIRE_KERNELS") == "1"


SETS = tuple(library.LANES)  # of instructions


def random_texts() -> Texts:
    """Make up what int8 is calibrated and judged on."""
    ids = np.random.default_rng(8).integers(0, V, 4000)
    return Texts(training=ids[:2000], validation=ids[2000:])


def compiled(checkpoint: Checkpoint, precision: str, folder: Path) -> Bundle:
    """Compile a model."""
    texts = random_texts() if precision == "int8" else None
    return export_briefly(checkpoint, folder, precision=Precision(precision), texts=texts)
