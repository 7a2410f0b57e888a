"""The load generator, against real servers."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.record import read
from serving.access.tokens import NewToken, issue
from tests.processes import imports, spawned_by
from tests.serving.access.certificates import Authority
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.load import clients
from unroll.client.load.clients import Load, first_seconds, serialised_requests
from unroll.client.load.command import load
from unroll.client.load.processes import shares
from unroll.client.load.record import LoadRecord
from unroll.client.load.settings import LoadSettings, Mode
from unroll.client.load.tally import Durations, Tally
from unroll.errors import InputError, UnavailableError, UnrollError
from unroll.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.slow

LONGER = (1, 10, 100)  # times


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(str(tiny_bundles["gru"])) as running:
        yield running


@pytest.mark.parametrize(("clients", "processes"), [(1, 1), (7, 3), (5, 5), (64, 2)])
def test_processes_share_the_clients_evenly(clients: int, processes: int) -> None:
    parts = shares(clients, processes)
    assert [number for part in parts for number in part] == list(range(clients))
    assert {len(part) for part in parts} <= {clients // processes, -(-clients // processes)}


def test_quantiles_are_those_of_all_parts_together() -> None:
    durations = np.random.default_rng(3).lognormal(-5, 2, 1001)
    found = Durations.of(durations[::2], durations[1::2])
    assert found is not None
    ordered = sorted(durations)
    assert (found.count, found.p50, found.longest) == (1001, ordered[500], ordered[1000])
    assert (found.p90, found.p99) == (ordered[900], ordered[990])
    assert Durations.of([], []) is None


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
def test_every_symbol_is_counted(server: RunningServer, mode: Mode) -> None:
    settings = LoadSettings(
        target=server.address, clients=5, mode=mode, seconds=0.5, warm_up=0.0, new_symbols=13
    )
    tally = run_long_enough(settings)
    assert not tally.errors
    assert len(tally.whole) == tally.requests > 0
    assert min(tally.symbols) > 0
    # What is under way at the end counts in part: at most a text a client.
    assert 0 <= sum(tally.symbols) - 13 * tally.requests <= 13 * 5
    streams = mode is Mode.STREAM
    assert len(tally.first) in (range(tally.requests, tally.requests + 6) if streams else [0])
    assert bool(tally.gaps) == streams


def run_in_process(settings: LoadSettings) -> Tally:
    load = Load(settings, range(settings.clients))
    return asyncio.run(load.run(lambda: asyncio.sleep(0)))


def run_until(settings: LoadSettings, is_enough: Callable[[Tally], bool]) -> Tally:
    """Load for so long that it is enough, on a busy machine, too."""
    for times in LONGER:
        tally = run_in_process(replace(settings, seconds=times * settings.seconds))
        if is_enough(tally):
            break
    return tally


def run_long_enough(settings: LoadSettings) -> Tally:
    """Load for so long that each client is answered."""
    return run_until(settings, lambda tally: min(tally.symbols) > 3 * settings.new_symbols)


def test_figures_are_written(server: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    settings = LoadSettings(
        target=server.address, clients=3, processes=2, warm_up=0.2, new_symbols=17, json=path
    )
    for times in LONGER:
        load(replace(settings, seconds=0.7 * times))
        record = read(LoadRecord, path)
        if min(record.symbols_by_client) > 3 * settings.new_symbols:
            break
    assert record.model["cell"] == "gru"
    assert record.settings["mode"] == "stream"
    assert len(record.symbols_by_client) == 3
    assert record.symbols_per_second == pytest.approx(sum(record.symbols_by_client) / (0.7 * times))
    for durations in (record.first_character, record.gap, record.request):
        assert durations is not None
        assert 0 < durations.p50 <= durations.p90 <= durations.p99 <= durations.longest
    assert record.request is not None
    assert record.request.count == record.requests


def test_report_says_what_each_of_its_figures_is(
    server: RunningServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for times in LONGER:
        load(LoadSettings(target=server.address, clients=1, seconds=1.0 * times, new_symbols=30))
        told = capsys.readouterr().out
        if "between two messages" in told:
            break
    assert "1 client, stream, at most 30 symbols a request" in " ".join(told.split())
    for row in ("to the first character", "between two messages", "for a whole text"):
        (line,) = (line for line in told.splitlines() if row in line)
        assert "p50/p90/p99 in ms" in line


def test_errors_are_counted_by_code(tiny_bundles: dict[Cell, Path]) -> None:
    with serve(str(tiny_bundles["lstm"]), slots=1, queue_limit=1) as full:
        settings = LoadSettings(
            target=full.address, clients=3, seconds=1.0, warm_up=0, new_symbols=ENDLESS
        )
        tally = run_until(settings, lambda tally: bool(tally.errors and sum(tally.symbols)))
    assert set(tally.errors) == {"RESOURCE_EXHAUSTED"}
    assert sum(tally.symbols) > 0  # of the one that was taken


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="is a server running there"):
        load(LoadSettings(target="127.0.0.1:1", json=tmp_path / "load.json"))
    assert not list(tmp_path.iterdir())


def test_a_prompt_outside_the_vocabulary_is_refused_once(server: RunningServer) -> None:
    with pytest.raises(InputError, match=r"not in the model's vocabulary .*; remove them$"):
        load(LoadSettings(target=server.address, prompt="xyz"))


def test_a_load_that_only_fails_is_an_error(server: RunningServer) -> None:
    # The first request alone is in time; the deadline of those that follow is too short for any.
    settings = LoadSettings(
        target=server.address, clients=2, seconds=0.5, new_symbols=ENDLESS, timeout=0.25
    )
    for times in LONGER:
        longer = replace(
            settings, seconds=times * settings.seconds, timeout=times * settings.timeout
        )
        with pytest.raises(UnrollError) as caught:
            load(longer)
        if "no server was ready" not in str(caught.value):  # a connection, too, must be in time
            break
    assert re.search("every request failed.*DEADLINE_EXCEEDED", str(caught.value))


def test_a_server_with_tls_and_tokens_is_loaded(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ours")
    own = authority.issue("127.0.0.1")
    tokens, token = tmp_path / "tokens", tmp_path / "token"
    token.write_text(issue(NewToken(file=tokens, name="anna")), "utf-8")
    with serve(
        str(tiny_bundles["gru"]), tls_certificate=own.certificate, tls_key=own.key, tokens=tokens
    ) as guarded:
        settings = LoadSettings(
            target=guarded.address,
            tls_ca=authority.file,
            token_file=token,
            clients=2,
            seconds=0.5,
            warm_up=0.0,
            new_symbols=5,
        )
        tally = run_long_enough(settings)
    assert not tally.errors
    assert tally.requests > 0


def test_ctrl_c_at_the_start_ends_the_command_in_one_line_with_status_130(
    server: RunningServer,
) -> None:
    command = [sys.executable, "-m", "unroll", "load", "--target", server.address]
    with subprocess.Popen(
        [*command, f"--new-symbols={ENDLESS}", "--clients=2", "--processes=2", "--warm-up=600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        wait_for(lambda: any(map(imports, spawned_by(process.pid))))
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (130, b"unroll load: interrupted\n")


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("reaches_all", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_tells_what_was_measured_so_far(
    server: RunningServer, tmp_path: Path, mode: Mode, reaches_all: bool
) -> None:
    command = [sys.executable, "-m", "unroll", "load", "--target", server.address]
    path = tmp_path / "load.json"
    with subprocess.Popen(
        [
            *command,
            f"--mode={mode.value}",
            f"--new-symbols={ENDLESS}",
            "--clients=4",
            "--processes=2",
            "--warm-up=0",
            "--seconds=600",
            f"--json={path}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        wait_for(lambda: len(server.sequences()) == 4)
        (os.killpg if reaches_all else os.kill)(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert re.fullmatch(r"unroll load: interrupted after \d+\.\d of 600 s\n", errors)
    assert "to the first character" in output
    assert not path.exists()


def test_clients_begin_one_after_the_other_within_the_warm_up() -> None:
    settings = LoadSettings(clients=4, warm_up=2.0)
    assert [first_seconds(settings, number) for number in range(4)] == [0.0, 0.5, 1.0, 1.5]
    assert first_seconds(LoadSettings(clients=4, warm_up=0.0), 3) == 0.0


def test_a_client_waits_for_its_turn(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def first(settings: LoadSettings, number: int) -> float:
        asked.append(number)
        return 0.0 if number < 2 else PATIENCE  # which is longer than the load

    monkeypatch.setattr(clients, "first_seconds", first)
    settings = LoadSettings(target=server.address, clients=3, seconds=0.3, new_symbols=3)
    tally = run_until(settings, lambda tally: min(tally.symbols[:2]) > 0)
    assert asked[-3:] == [0, 1, 2]
    assert [symbols > 0 for symbols in tally.symbols] == [True, True, False]
