"""A bundle that a test may damage."""

import shutil
from pathlib import Path

import pytest

from training.settings import Cell


@pytest.fixture
def bundle(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> Path:
    """Copy a bundle, to be damaged."""
    return Path(shutil.copytree(tiny_bundles["lstm"], tmp_path / "bundle"))
