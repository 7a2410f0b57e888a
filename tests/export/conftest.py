"""Bundles of lower precisions, made once."""

from functools import cache

import pytest

from export.graph.arithmetic import Precision
from serving.runtime.onnx import Device
from tests.export.lower import Make, compiled
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle


@pytest.fixture(scope="package")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Compiles a tiny model once, for tests that do not change its bundle."""

    @cache
    def of(
        cell: Cell, precision: Precision, device: Device = Device.CPU, hidden: int = 7
    ) -> Bundle:
        folder = tmp_path_factory.mktemp(precision.value) / "bundle"
        return compiled(cell, folder, precision, device, hidden)

    return of


@pytest.fixture(scope="package", params=[(cell, size) for cell in CELLS for size in (7, 37)])
def int8_bundle(request: pytest.FixtureRequest, make: Make) -> Bundle:
    """An int8 bundle of each cell, of two odd sizes."""
    cell, hidden = request.param
    return make(cell, Precision.INT8, Device.CPU, hidden)
