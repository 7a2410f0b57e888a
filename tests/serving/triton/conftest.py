"""One server for the tests of Triton's door, and a channel to it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.serving.running import RunningServer, serve
from training.settings import Cell
from unroll.client.client import Client


@pytest.fixture(scope="package")
def triton(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", str(tiny_bundles["lstm"]), http_port=0) as running:
        yield running


@pytest.fixture(scope="package")
def channel(triton: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(triton.address) as made:
        yield made


@pytest.fixture(scope="package")
def ours(triton: RunningServer) -> Iterator[Client]:
    with triton.client() as made:
        yield made
