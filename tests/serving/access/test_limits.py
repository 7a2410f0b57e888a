"""One caller cannot take what is everybody's."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from serving.access.callers import CallerLimits, Callers
from serving.access.tokens import NewToken, issue
from tests.serving.rpc.health import SERVING, check_health
from tests.serving.rpc.http2 import END_STREAM, HEADERS, RawConnection
from tests.serving.running import ENDLESS, PATIENCE, serve, wait_for
from tests.unroll.client.stub import connected, refused
from training.settings import Cell
from unroll.client.client import Client
from unroll.client.remote.security import Security
from unroll.errors import CallerBusyError, InputError, RateError
from unroll.options import GenerateOptions
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import from_rpc_error

LONG = GenerateOptions(max_new_symbols=ENDLESS, seed=3)


def test_caller_with_all_its_calls_is_refused_and_others_are_not(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    anna, bert = (issue(NewToken(name=name, file=file)) for name in ("anna", "bert"))
    with (
        serve(str(tiny_bundles["gru"]), tokens=file, max_calls_per_caller=2) as running,
        Client(running.address, security=Security(token=anna)) as hers,
        Client(running.address, security=Security(token=bert)) as his,
    ):
        streams = [hers.stream("abc", LONG) for _ in range(2)]
        for stream in streams:
            next(stream)
        with pytest.raises(CallerBusyError, match="the limit is 2"):
            hers.generate("abc", timeout=PATIENCE)
        assert his.generate("abc", timeout=PATIENCE).text
        with grpc.insecure_channel(running.address) as channel:
            assert check_health(channel) == SERVING
        streams[0].close()
        wait_for(lambda: len(running.server.doors.gate.running) == 1)
        assert hers.generate("abc", timeout=PATIENCE).text  # its place is free again
        streams[1].close()


def test_callers_without_a_name_take_turns_by_address(tiny_bundles: dict[Cell, Path]) -> None:
    """The modest one's answer comes while the greedy one's calls wait."""
    path = "/unroll.v1.TextGenerationService/Generate"
    greedy = pb.GenerateRequest(prompt="abc", max_new_symbols=ENDLESS).SerializeToString()
    modest = pb.GenerateRequest(prompt="abc", max_new_symbols=5).SerializeToString()
    with (
        serve(str(tiny_bundles["gru"]), slots=2) as running,
        RawConnection(running.address) as takes_all,
        RawConnection(running.address, source="127.0.0.2") as takes_one,
    ):
        for _ in range(20):
            takes_all.call(path, greedy)
        wait_for(lambda: len(running.sequences()) == 20)
        takes_one.call(path, modest)
        takes_one.read_until(HEADERS, END_STREAM)
        assert any(each.times.began is None for each in running.sequences())


def test_each_sample_counts_as_a_call_of_its_caller(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    anna, bert = (issue(NewToken(name=name, file=file)) for name in ("anna", "bert"))
    four, five = replace(LONG, sample_count=4), replace(LONG, sample_count=5)
    two = GenerateOptions(max_new_symbols=5, sample_count=2)
    with (
        serve(str(tiny_bundles["gru"]), tokens=file, max_calls_per_caller=5) as running,
        Client(running.address, security=Security(token=anna)) as hers,
        Client(running.address, security=Security(token=bert)) as his,
    ):
        stream = hers.stream("abc", four)
        next(stream)
        with pytest.raises(CallerBusyError, match="the limit is 5"):
            hers.generate("abc", two, timeout=PATIENCE)
        assert hers.generate("abc", timeout=PATIENCE).text  # the fifth
        assert his.generate("abc", two, timeout=PATIENCE).further_samples
        stream.close()
        wait_for(lambda: not running.server.doors.gate.running)
        assert hers.generate("abc", two, timeout=PATIENCE).further_samples
        wait_for(lambda: not running.server.doors.gate.running)
        with closing(hers.stream("abc", five, timeout=PATIENCE)) as all_of_hers:
            assert next(all_of_hers).text
        wait_for(lambda: not running.server.doors.gate.running)
        with pytest.raises(InputError, match=r"must be at most 5.*got 6") as caught:
            hers.generate("abc", replace(two, sample_count=6), timeout=PATIENCE)
        assert caught.value.field == "sample_count"


def test_rate_refuses_with_the_time_to_wait_and_lets_in_again(
    tiny_bundles: dict[Cell, Path],
) -> None:
    slow = serve(str(tiny_bundles["gru"]), rate_per_caller=2.0, burst_per_caller=3)
    with slow as running, connected(running.address) as stub:
        tried = (refusal_of(stub.calls) for _ in range(1000))  # faster than two a second
        error = next(filter(None, tried))
        assert isinstance(from_rpc_error(error, "there"), RateError)
        retry = RetryInfo()
        assert any(detail.Unpack(retry) for detail in rpc_status.from_call(error).details)
        assert 0 < retry.retry_delay.ToMicroseconds() <= 500_000
        wait_for(lambda: refusal_of(stub.calls) is None)


def refusal_of(calls: Any) -> grpc.RpcError | None:
    try:
        calls.ListModels(pb.ListModelsRequest(), timeout=PATIENCE)
    except grpc.RpcError as error:
        return error
    return None


class Clock:
    """A clock that is set by hand."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def admit(callers: Callers, key: str, times: int) -> None:
    for _ in range(times):
        with callers.admit(key):
            pass


def test_bucket_gives_a_burst_then_the_rate_and_never_saves_more_than_a_burst() -> None:
    clock = Clock()
    callers = Callers(CallerLimits(calls=1, rate=4.0, burst=5), clock)
    admit(callers, "anna", 5)
    with pytest.raises(RateError, match="wait 250 ms") as caught:
        admit(callers, "anna", 1)
    assert caught.value.retry_after == 0.25
    admit(callers, "bert", 5)
    clock.seconds += 0.5
    admit(callers, "anna", 2)
    with pytest.raises(RateError):
        admit(callers, "anna", 1)
    clock.seconds += 1000
    admit(callers, "anna", 5)
    with pytest.raises(RateError):
        admit(callers, "anna", 1)


def test_refused_calls_cost_nothing_and_failed_ones_free_their_place() -> None:
    callers = Callers(CallerLimits(calls=1, rate=0, burst=1), Clock())
    with callers.admit("anna"):
        for _ in range(3):
            with pytest.raises(CallerBusyError), callers.admit("anna"):
                pass
    with pytest.raises(ValueError, match="a failure"), callers.admit("anna"):
        raise ValueError("a failure")
    admit(callers, "anna", 1)


def test_callers_that_have_gone_are_forgotten() -> None:
    clock = Clock()
    callers = Callers(CallerLimits(calls=2, rate=1.0, burst=3), clock)
    with callers.admit("stays"):
        for number in range(10_000):
            admit(callers, f"{number}", 1)
            clock.seconds += 1
        assert len(callers) < 5000
        with callers.admit("stays"), pytest.raises(CallerBusyError), callers.admit("stays"):
            pass


def test_fewer_stop_strings_can_be_allowed(tiny_bundles: dict[Cell, Path]) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_stop_strings=2) as running,
        connected(running.address) as stub,
    ):
        assert stub.generate("abc", 5, stop=["x", "y"]).text
        with refused("INVALID_FIELD") as refusal:
            stub.generate("abc", 5, stop=["x", "y", "z"])
        assert refusal.field == "stop"


def test_refusal_of_a_full_caller_does_not_wait_for_the_running_ones(
    tiny_bundles: dict[Cell, Path],
) -> None:
    """The queue of one caller is refused at once, while what is admitted goes on."""
    with (
        serve(str(tiny_bundles["gru"]), slots=1, max_calls_per_caller=1) as running,
        running.client() as client,
    ):
        stream = client.stream("abc", LONG)
        next(stream)
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                client.generate("abc", timeout=PATIENCE)
            except CallerBusyError as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(errors) == 7
        assert len(running.sequences()) == 1
        assert next(stream).text
        stream.close()
