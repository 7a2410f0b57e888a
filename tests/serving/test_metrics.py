"""The page for Prometheus tells what the server did."""

from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.client.blocking import Client
from serving.client.options import GenerateOptions
from serving.errors import SessionEndedError, SessionEvictedError, SettingsError
from serving.settings import ServerSettings
from tests.serving.running import RunningServer
from training.settings import Cell

PROMPT = "abc bad cab " * 5  # long enough to be kept


def counts(server: RunningServer) -> dict[tuple[str, ...], float]:
    """Read the page: every sample by its name and label values."""
    page = server.server.metrics_page
    assert page is not None
    with urlopen(f"http://127.0.0.1:{page.port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_sessions_are_counted_by_what_became_of_them(tiny_bundles: dict[Cell, Path]) -> None:
    settings = ServerSettings(
        model=(f"tiny={tiny_bundles['gru']}",), port=0, metrics_port=0, sessions_in_memory=2
    )
    with RunningServer(settings) as server, Client(server.address) as client:
        first, second, third = (client.start_session() for _ in range(3))
        with pytest.raises(SessionEvictedError):
            first.describe()
        third.end()
        with pytest.raises(SessionEndedError):
            third.describe()
        second.describe()
        seen = counts(server)
    assert seen["unroll_sessions_gone_total", "evicted"] == 1
    assert seen["unroll_sessions_gone_total", "ended"] == 1
    assert seen["unroll_sessions_gone_total", "expired"] == 0
    assert seen["unroll_sessions_in_memory",] == 1


def test_spilled_and_loaded_sessions_are_counted(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    settings = ServerSettings(
        model=(f"tiny={tiny_bundles['gru']}",),
        port=0,
        metrics_port=0,
        sessions_in_memory=1,
        state_dir=tmp_path,
    )
    with RunningServer(settings) as server, Client(server.address) as client:
        first, _ = client.start_session(), client.start_session()
        first.describe()
        seen = counts(server)
    assert seen["unroll_sessions_spilled_total",] == 1
    assert seen["unroll_sessions_loaded_total",] == 1


def test_prefix_lookups_are_counted_by_outcome(tiny_bundles: dict[Cell, Path]) -> None:
    settings = ServerSettings(model=(f"tiny={tiny_bundles['lstm']}",), port=0, metrics_port=0)
    options = GenerateOptions(max_new_symbols=3)
    with RunningServer(settings) as server, Client(server.address) as client:
        for _ in range(3):
            client.generate(PROMPT, options)
        client.start_session().generate(PROMPT, options)  # a new session reads from the start, too
        seen = counts(server)
    assert seen["unroll_prefix_lookups_total", "tiny", "miss"] == 1
    assert seen["unroll_prefix_lookups_total", "tiny", "hit"] == 3
    assert seen["unroll_prefix_entries", "tiny"] == 1


def test_taken_metrics_port_is_an_error(tiny_bundles: dict[Cell, Path]) -> None:
    settings = ServerSettings(model=(f"tiny={tiny_bundles['gru']}",), port=0, metrics_port=0)
    with RunningServer(settings) as server:
        page = server.server.metrics_page
        assert page is not None
        taken = ServerSettings(model=settings.model, port=0, metrics_port=page.port)
        with pytest.raises(SettingsError, match="--metrics-port"), RunningServer(taken):
            pass
