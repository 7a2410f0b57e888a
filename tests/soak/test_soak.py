"""The soak, against real servers that are really killed; and that it can fail."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.ports import free_ports
from tests.serving.engine.harness import alone, request
from tests.serving.running import NARROW, PATIENCE, wait_for
from tests.soak import __main__ as command
from tests.soak.account import Attempt, Claim, Failure
from tests.soak.keeper import End, Look, Lot, Prank, ServerKeeper
from tests.soak.plan import DECK, Asked, Kind, Step, deal
from tests.soak.reference import Expected, Reference, check, checker
from tests.soak.report import GROWTH_AT_MOST, Report, failures
from tests.soak.server import HELD, Page, Server
from tests.soak.settings import SoakSettings
from tests.soak.soak import Soak
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.client.client import Client
from unroll.errors import SettingsError
from unroll.options import GenerateOptions
from unroll.terms import FinishReason

ASKED = Asked(
    prompt="bc", new=200, seed=7, sampling=SamplingParams(temperature=1.2), stop=("feeb", "£gc")
)
BEFORE = "abc£\nbc"


@pytest.fixture(scope="module")
def reference(tiny_bundles: dict[Cell, Path]) -> Reference:
    return Reference(load_bundle(tiny_bundles["gru"]))


@pytest.mark.slow
def test_short_soak_finds_no_fault(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    settings = SoakSettings(minutes=0.05, clients=8, processes=1, life_seconds=6)
    bundle = load_bundle(tiny_bundles["gru"])
    others = [load_bundle(tiny_bundles[cell]) for cell in ("rnn_tanh", "lstm")]
    report = Soak(settings, bundle, others, tmp_path, checker(bundle, others)).run()
    assert failures(report) == []
    assert report.texts > len(Kind) / 2
    assert set(report.leaks) == set(HELD)
    assert all(report.looks), "each server must have told its metrics"


@pytest.mark.slow
def test_wrong_text_is_found_and_told(
    tiny_bundles: dict[Cell, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Wrong(Reference):
        def write(self, before: str, asked: Asked) -> Expected:
            return super().write(before, replace(asked, seed=asked.seed ^ 1))

    monkeypatch.setattr("tests.soak.reference.Reference", Wrong)
    record = tmp_path / "soak.json"
    arguments = {
        "bundle": tiny_bundles["lstm"],
        "minutes": 0.05,
        "clients": 6,
        "processes": 1,
        "json": record,
    }
    with pytest.raises(SystemExit) as ended:
        command.main([f"--{name}={value}" for name, value in arguments.items()])
    assert ended.value.code == 2
    assert "texts are not those computed alone" in capsys.readouterr().err
    written = json.loads(record.read_text(encoding="utf-8"))
    assert int(written["mismatches"].replace(",", "")) > 0
    assert "are not those computed alone" in written["failures"]


@pytest.mark.parametrize("stop", [ASKED.stop, ()], ids=["stops", "plain"])
def test_reference_is_what_one_symbol_a_call_gives(
    tiny_bundles: dict[Cell, Path], reference: Reference, stop: tuple[str, ...]
) -> None:
    bundle = load_bundle(tiny_bundles["gru"])
    asked = request(
        bundle.vocabulary, BEFORE, ASKED.new, seed=ASKED.seed, sampling=ASKED.sampling, stop=stop
    )
    outcome = alone(Decoder(bundle, Device.CPU), bundle.vocabulary, asked)
    found = reference.write(BEFORE, replace(ASKED, stop=stop))
    assert (found.text, found.finish, found.generated) == (
        outcome.text,
        outcome.finish,
        outcome.generated,
    )
    assert tuple(map(float, found.log_probs)) == outcome.log_probs
    assert (found.finish is FinishReason.STOP) == bool(stop)


def test_reference_scores_as_it_writes(reference: Reference) -> None:
    written = reference.write(BEFORE, replace(ASKED, stop=()))
    scored = reference.score(BEFORE, replace(ASKED, prompt=written.text))
    assert np.array_equal(scored.log_probs, written.log_probs)


def claim_of(reference: Reference, **changes: Any) -> Claim:
    """Return what a good server would send, changed."""
    found = reference.write(BEFORE, ASKED)
    good = Claim(
        kind=Kind.STREAM,
        before=BEFORE,
        asked=ASKED,
        text=found.text,
        log_probs=found.log_probs.tolist(),
        finish=found.finish,
        position=len(BEFORE) + found.generated,
    )
    return replace(good, **changes)


def test_good_texts_and_their_beginnings_do_not_differ(reference: Reference) -> None:
    whole = claim_of(reference)
    assert len(whole.text) > 10
    assert check(reference, whole) == ""
    part: dict[str, Any] = {"text": whole.text[:5], "log_probs": whole.log_probs[:5]}
    assert check(reference, replace(whole, **part, finish=None, position=None)) == ""
    cut = replace(whole, **part, finish=FinishReason.SHUTDOWN, position=len(BEFORE) + 5)
    assert check(reference, cut) == ""
    nothing: dict[str, Any] = {"text": "", "log_probs": whole.log_probs[:0]}
    assert check(reference, replace(whole, **nothing, finish=None, position=None)) == ""


def other(log_probs: list[float]) -> list[float]:
    found: list[float] = np.nextafter(np.array(log_probs, np.float32), np.float32(0)).tolist()
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda good: {"text": good.text[:3] + "\n" + good.text[4:]}, "from 3 on"),
        (lambda good: {"text": good.text + "a"}, "symbols, from"),
        (lambda good: {"text": good.text[:-1]}, "symbols, from"),
        (lambda good: {"text": good.text[1:], "finish": None}, "from 0 on"),
        (lambda good: {"asked": replace(ASKED, seed=8)}, "alone"),
        (lambda good: {"before": good.before[:-1] + "a"}, "other log-probabilities"),
        (lambda good: {"log_probs": other(good.log_probs)}, "other log-probabilities"),
        (lambda good: {"log_probs": good.log_probs[:-1]}, "with"),
        (lambda good: {"finish": FinishReason.LENGTH}, "ended by"),
        (lambda good: {"position": good.position + 1}, "ended at position"),
    ],
)
def test_each_difference_is_told(
    reference: Reference, change: Callable[[Claim], dict[str, Any]], told: str
) -> None:
    good = claim_of(reference)
    assert good.text[3] != "\n"
    assert told in check(reference, replace(good, **change(good)))


def test_other_score_is_told(reference: Reference) -> None:
    asked = replace(ASKED, prompt="abcabc")
    log_probs = reference.score("ab", asked).log_probs.tolist()
    scored = Claim(
        kind=Kind.SCORE,
        before="ab",
        asked=asked,
        text="abcabc",
        log_probs=log_probs,
        is_scored=True,
    )
    assert check(reference, scored) == ""
    assert "other log-probabilities" in check(reference, replace(scored, log_probs=log_probs[::-1]))


def look(**changes: Any) -> Look:
    page = Page(held=dict.fromkeys(HELD, 0.0), never=0, resident_bytes=2.0**27)
    return Look(life=1, page=replace(page, **changes))


def good_report() -> Report:
    report = Report(clients_killed=1, takeovers=1, leaks=dict.fromkeys(HELD, 0.0))
    report.done, report.pranks = Counter(Kind), Counter(Prank)
    report.ends = [[End.KILLED], [End.DRAINED]]
    report.looks = [[look() for _ in range(9)]]
    failure = Failure(name="UnavailableError", is_expected=True, message="gone")
    report.add(Attempt(kind=Kind.STREAM, is_done=False, failures=[failure]))
    return report


def unexpected(report: Report) -> None:
    failure = Failure(name="ServerError INTERNAL", is_expected=False, message="why")
    report.add(Attempt(kind=Kind.STREAM, is_done=False, failures=[failure]))


MUCH = 2.0**27 + (GROWTH_AT_MOST + 1) * 2**20
TEXT = Claim(kind=Kind.STREAM, before="", asked=ASKED, text="abc", log_probs=[0.0] * 3)
BLEMISHES: list[tuple[str, Callable[[Report], Any]]] = [
    ("never done: fork", lambda report: report.done.pop(Kind.FORK)),
    ("never done: SIGHUP", lambda report: report.pranks.pop(Prank.RELOAD)),
    ("ended by SIGKILL", lambda report: report.ends[0].clear()),
    ("ended by SIGTERM", lambda report: report.ends[1].clear()),
    ("no clients were killed", lambda report: vars(report).update(clients_killed=0)),
    ("no stream was taken over", lambda report: vars(report).update(takeovers=0)),
    ("1 of 1 texts", lambda report: report.compare(TEXT, "other")),
    ("unexpected error: ServerError INTERNAL, 1 times", unexpected),
    ("held at the end: unroll_slots_taken = 2", lambda r: r.leaks.update(unroll_slots_taken=2.0)),
    ("3 calls ended with INTERNAL", lambda r: r.looks.append([look(never=3)])),
    ("1 errors in the servers' logs: why", lambda report: report.logged.append("why")),
    ("memory grew", lambda report: report.looks[0].append(look(resident_bytes=MUCH))),
    ("it fell", lambda report: report.problems.append("it fell")),
]


def test_soak_without_a_blemish_has_not_failed() -> None:
    assert failures(good_report()) == []


@pytest.mark.parametrize(("told", "spoil"), BLEMISHES, ids=[told for told, _ in BLEMISHES])
def test_soak_with_any_blemish_has_failed(told: str, spoil: Callable[[Report], Any]) -> None:
    report = good_report()
    spoil(report)
    assert [told in failure for failure in failures(report)] == [True]


def test_plan_depends_on_the_seed_alone_and_has_all_of_it() -> None:
    assert set(DECK) <= set(Kind)
    first = list(islice(deal(1, 2, 0, 3), 40))
    assert first == list(islice(deal(1, 2, 0, 3), 40))
    assert first != list(islice(deal(2, 2, 0, 3), 40))
    assert set(islice(deal(1, 2, 0, 3), len(DECK))) == set(DECK)
    assert Step("abc", 1, 2, 3).text(99) == Step("abc", 1, 2, 3).text(99)
    assert Step("abc", 1, 2, 3).text(99) != Step("abc", 1, 2, 4).text(99)


@pytest.mark.slow
def test_what_a_stalled_stream_holds_is_seen_until_it_is_cancelled(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    first, second = free_ports(2)
    others = [tiny_bundles["lstm"]]
    server = Server(tiny_bundles["gru"], others, tmp_path, "ab" * 32, (first, second))
    assert server.page() is None
    server.start()
    try:
        wait_for(lambda: server.page() is not None)
        channel = grpc.insecure_channel(server.address, options=NARROW)
        with Client(channel=channel) as client:
            stream = client.stream("abc", GenerateOptions(max_new_symbols=65536))
            next(stream)
            wait_for(lambda: held(server) == {"unroll_requests_running", "unroll_requests_stalled"})
            stream.close()
            wait_for(lambda: not held(server))
        server.kill()
        assert server.exit_code() == -9
        assert server.page() is None
    finally:
        server.kill()


def held(server: Server) -> set[str]:
    found = server.page()
    assert found is not None
    return {name for name, count in found.held.items() if count}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0.0}, "minutes = 0.0: must be above 0; change --minutes"),
        ({"clients": 0}, "clients = 0: must be at least 1"),
        ({"processes": 25}, "processes = 25: must be at most the number of clients, 24"),
        ({"json": Path("/no/such/folder/x.json")}, "json = '/no/such/folder/x.json'"),
    ],
)
def test_settings_that_cannot_be_soaked_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SoakSettings(**changes).validate()


class SlowServer(Server):
    """A server that takes its time to be there, and ends when it is told to."""

    def __init__(self) -> None:
        self.address, self.starts, self.is_there = "there:1", 0, False
        self.code: int | None = None

    def start(self) -> None:
        self.code = None
        self.starts += 1

    def kill(self) -> None:
        self.code = -9

    def exit_code(self) -> int | None:
        return self.code

    def send(self, number: signal.Signals) -> None:
        assert self.is_there, "a signal that comes before the program listens would end it"
        if number is signal.SIGTERM:
            self.code = 0

    def page(self) -> Page | None:
        return Page(held={}, never=0, resident_bytes=1.0) if self.is_there else None


def test_a_server_that_is_stopped_while_it_starts_is_drained_once_it_lives() -> None:
    server = SlowServer()
    keeper = ServerKeeper(server, Lot(1.0, End.DRAINED, "a test"), lambda _: False)
    keeper.start()
    wait_for(lambda: server.starts == 1)
    keeper.stop()
    assert not keeper.is_living
    server.is_there = True
    keeper.join(PATIENCE)
    assert not keeper.is_alive()
    assert keeper.problems == []
    assert server.starts == 1


def test_a_server_that_ends_by_itself_is_a_problem_and_comes_back() -> None:
    server = SlowServer()
    keeper = ServerKeeper(server, Lot(1.0, End.DRAINED, "a test"), lambda _: False)
    server.is_there = True
    keeper.start()
    wait_for(lambda: keeper.is_living)
    server.code = 7
    wait_for(lambda: server.starts == 2)
    keeper.stop()
    keeper.join(PATIENCE)
    assert keeper.problems == ["the server at there:1 ended by itself with 7"]
