"""A small model, loaded."""

from pathlib import Path

import pytest

from serving.bundle import Bundle, load_bundle
from serving.decoder import Decoder
from serving.runtime import Device
from training.settings import Cell


@pytest.fixture(scope="module", params=["gru", "lstm"])
def bundle(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle with one state tensor and one with two."""
    return load_bundle(tiny_bundles[request.param])


@pytest.fixture(scope="module")
def decoder(bundle: Bundle) -> Decoder:
    """The bundle's loop."""
    return Decoder(bundle, Device.CPU)
