"""A server of two models for all tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client.blocking import Client
from tests.serving.running import RunningServer, serve
from training.settings import Cell


@pytest.fixture(scope="session")
def shared_server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", str(tiny_bundles["lstm"])) as running:
        yield running


@pytest.fixture(scope="session")
def client(shared_server: RunningServer) -> Iterator[Client]:
    with shared_server.client() as made:
        yield made
