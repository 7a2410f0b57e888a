"""One Redis and one Valkey for all tests of a process."""

from collections.abc import Iterator

import pytest

from tests.serving.key_servers import KeyServer, running


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyServer]:
    with running("redis", tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyServer]:
    with running("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server
