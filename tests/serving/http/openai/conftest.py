"""A server, our client and OpenAI's, for all tests of its door."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.serving.running import PATIENCE, RunningServer, serve
from training.settings import Cell
from unroll.client.client import Client


@pytest.fixture(scope="package")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", str(tiny_bundles["lstm"]), http_port=0) as running:
        yield running


@pytest.fixture(scope="package")
def ours(server: RunningServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


@pytest.fixture(scope="package")
def theirs(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.server.http_address}/v1", api_key="none", max_retries=0, timeout=PATIENCE
    ) as made:
        yield made
