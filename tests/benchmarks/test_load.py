"""The load generator, against real servers."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.load.__main__ import load
from benchmarks.load.clients import Load, serialised_requests
from benchmarks.load.histogram import RATIO, Histogram
from benchmarks.load.processes import run_load, shares
from benchmarks.load.settings import Channels, LoadSettings, Mode
from benchmarks.load.table import is_at_its_limit
from benchmarks.load.tally import Tally
from tests.serving.running import RunningServer, serve
from training.settings import Cell
from unroll.errors import InputError, SettingsError, UnavailableError, UnrollError
from unroll.v1 import text_generation_pb2 as pb


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(str(tiny_bundles["gru"])) as running:
        yield running


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": 0}, "clients = 0: must be 1 or more; change --clients"),
        ({"new_symbols": 0}, "new_symbols = 0"),
        ({"clients": 3, "processes": 5}, "processes = 5: must be at most the number of clients, 3"),
        ({"seconds": 0.0}, "seconds = 0.0: must be above 0"),
        ({"seconds": float("inf")}, "seconds = inf"),
        ({"warm_up": -1.0}, "warm_up = -1.0: must be 0 or more; change --warm-up"),
        ({"json": Path("/no/such/folder/x.json")}, "json = '/no/such/folder/x.json'"),
        ({"plot": Path("/no/such/folder/x.png")}, "plot = "),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        LoadSettings(**changes).validate()


def test_quantiles_are_right_within_a_bucket() -> None:
    durations = np.random.default_rng(3).lognormal(-5, 2, 1001)
    halves = Histogram(), Histogram()
    for place, seconds in enumerate(durations):
        halves[place % 2].add(seconds)
    merged = Histogram.merged(halves)
    assert merged.total == 1001
    for part in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = np.quantile(durations, part, method="inverted_cdf")
        assert merged.quantile(part) == pytest.approx(exact, rel=RATIO - 1)
    assert Histogram().quantile(0.5) is None


@pytest.mark.parametrize(("clients", "processes"), [(1, 1), (7, 3), (5, 5), (64, 2)])
def test_processes_share_the_clients_evenly(clients: int, processes: int) -> None:
    parts = shares(clients, processes)
    assert [number for part in parts for number in part] == list(range(clients))
    assert {len(part) for part in parts} <= {clients // processes, -(-clients // processes)}


def test_seeds_are_distinct_and_reproducible() -> None:
    settings = LoadSettings(seed=11, prompt="ab", log_probs=True, capsules=False)

    def seeds() -> list[int]:
        each = [serialised_requests(settings, number) for number in range(5)]
        texts = [next(requests) for requests in each for _ in range(7)]
        return [pb.GenerateRequest.FromString(text).seed for text in texts]

    assert len(set(seeds())) == 35
    assert seeds() == seeds()
    assert seeds()[0] == 11
    asked = pb.GenerateRequest.FromString(next(serialised_requests(settings, 0)))
    assert (asked.prompt, asked.log_probs) == ("ab", True)
    assert asked.capsules == pb.CAPSULE_DELIVERY_NEVER


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("channels", list(Channels))
def test_every_symbol_is_counted(server: RunningServer, mode: Mode, channels: Channels) -> None:
    settings = LoadSettings(
        target=server.address, clients=5, mode=mode, channels=channels,
        seconds=0.5, warm_up=0.0, new_symbols=13,
    )  # fmt: skip
    tally = run_in_process(settings)
    assert not tally.errors
    assert tally.whole.total == tally.requests > 0
    assert min(tally.symbols) > 0
    # What is under way at the end counts in part: less than a text a client.
    assert 0 <= sum(tally.symbols) - 13 * tally.requests < 13 * 5
    streams = mode is Mode.STREAM
    assert tally.first.total in (range(tally.requests, tally.requests + 6) if streams else [0])
    assert bool(tally.gaps.total) == streams


def run_in_process(settings: LoadSettings) -> Tally:
    load = Load(settings, range(settings.clients))
    asyncio.run(load.run())
    return load.tally()


def test_figures_and_picture_are_written(server: RunningServer, tmp_path: Path) -> None:
    record, picture = tmp_path / "load.json", tmp_path / "load.png"
    load(
        LoadSettings(
            target=server.address,
            clients=3,
            processes=2,
            seconds=0.7,
            warm_up=0.2,
            new_symbols=17,
            json=record,
            plot=picture,
        )
    )
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["model"]["cell"] == "gru"
    assert written["settings"]["mode"] == "stream"
    assert written["seconds"] == pytest.approx(0.7)
    assert len(written["symbols_by_client"]) == 3
    assert written["symbols_per_second"] == pytest.approx(sum(written["symbols_by_client"]) / 0.7)
    for name in ("first_character", "gap", "request"):
        durations = written[name]
        assert sum(count for _, count in durations["histogram"]) == durations["count"] > 0
        assert durations["p50"] <= durations["p90"] <= durations["p99"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_keeps_what_was_measured(server: RunningServer) -> None:
    interrupted: list[Tally] = []

    def press(seen: Tally) -> None:
        if seen.requests and not interrupted:
            interrupted.append(seen)
            raise KeyboardInterrupt

    settings = LoadSettings(
        target=server.address, clients=3, processes=2, seconds=600, warm_up=0, new_symbols=5
    )
    tally = run_load(settings, press)
    assert tally.requests >= interrupted[0].requests
    assert 0 < tally.seconds < 600


def test_errors_are_counted_by_code(tiny_bundles: dict[Cell, Path]) -> None:
    with serve(str(tiny_bundles["lstm"]), slots=1, queue_limit=1) as full:
        settings = LoadSettings(
            target=full.address, clients=3, seconds=0.5, warm_up=0, new_symbols=50_000
        )
        tally = run_in_process(settings)
    assert set(tally.errors) == {"RESOURCE_EXHAUSTED"}
    assert sum(tally.symbols) > 0  # of the one that was taken


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="is a server running there"):
        load(LoadSettings(target="127.0.0.1:1", json=tmp_path / "load.json"))
    assert not list(tmp_path.iterdir())


def test_a_prompt_outside_the_vocabulary_is_refused_once(server: RunningServer) -> None:
    with pytest.raises(InputError, match="not in the model's vocabulary"):
        load(LoadSettings(target=server.address, prompt="xyz"))


def test_a_load_that_only_fails_is_an_error(server: RunningServer) -> None:
    # The first request alone is in time; the deadline of those that follow is too short for any.
    settings = LoadSettings(
        target=server.address, clients=2, seconds=0.5, new_symbols=60_000, timeout=0.02
    )
    with pytest.raises(UnrollError, match=r"every request failed.*DEADLINE_EXCEEDED"):
        load(settings)


def test_a_busy_generator_is_told() -> None:
    settings = LoadSettings(processes=2)
    assert is_at_its_limit(settings, Tally(seconds=10, busy_seconds=19))
    assert not is_at_its_limit(settings, Tally(seconds=10, busy_seconds=17))
    assert not is_at_its_limit(settings, Tally())
