"""Who is judged before anything of a call is read, and what a caller may leave lying about."""

import asyncio
import gc
import logging
from collections import Counter
from pathlib import Path

import grpc
import pytest

from serving.access import callers
from serving.access.tokens import NewToken, issue
from serving.rpc import gate
from tests.serving.rpc.http2 import END_STREAM, HEADERS, RawConnection
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from tests.unroll.client.stub import ask, connected, refused
from training.settings import Cell
from unroll.client.client import Client
from unroll.client.remote.security import Security
from unroll.options import GenerateOptions
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub

GENERATE = "/unroll.v1.TextGenerationService/Generate"
LIST = "/unroll.v1.TextGenerationService/ListModels"


def ended(running: RunningServer, code: str) -> float | None:
    """How many calls of Generate ended with a code."""
    labels = {"method": "Generate", "code": code}
    return running.server.doors.calls.registry.get_sample_value("unroll_requests_total", labels)


def test_stranger_is_refused_before_its_message_has_come(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    issue(NewToken(name="anna", file=file))
    with (
        serve(str(tiny_bundles["gru"]), tokens=file) as running,
        RawConnection(running.address) as stranger,
    ):
        stranger.begin(GENERATE)
        stranger.read_until(HEADERS, END_STREAM)
        wait_for(lambda: ended(running, "UNAUTHENTICATED") == 1)
        wait_for(lambda: not running.server.doors.gate.running)


def test_call_without_a_message_counts_as_one_of_its_caller(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_calls_per_caller=2) as running,
        RawConnection(running.address) as idle,
        connected(running.address) as stub,
    ):
        for _ in range(2):
            idle.begin(GENERATE)
        wait_for(lambda: len(running.server.doors.gate.running) == 2)
        with refused("CALLER_BUSY"):
            stub.generate("abc", 5)
        idle.close()
        wait_for(lambda: not running.server.doors.gate.running)
        assert stub.generate("abc", 5).text


def test_message_that_does_not_come_is_given_up(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MESSAGE_SECONDS", 0.2)
    with (
        serve(str(tiny_bundles["gru"])) as running,
        RawConnection(running.address) as slow,
    ):
        slow.send_part(slow.begin(GENERATE), announced=1000, sent=999)
        slow.read_until(HEADERS, END_STREAM)
        wait_for(lambda: not running.server.doors.gate.running)
        assert ended(running, "INVALID_ARGUMENT") == 1


def test_unfinished_messages_hold_up_their_own_caller_alone(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "MESSAGES_AT_ONCE", 1)
    file = tmp_path / "tokens"
    anna, bert = (issue(NewToken(name=name, file=file)) for name in ("anna", "bert"))
    with (
        serve(str(tiny_bundles["gru"]), tokens=file) as running,
        RawConnection(running.address) as idle,
        Client(running.address, security=Security(token=anna)) as hers,
        Client(running.address, security=Security(token=bert)) as his,
    ):
        idle.begin(GENERATE, headers=((b"authorization", b"Bearer " + anna.encode()),))
        wait_for(lambda: len(running.server.doors.gate.running) == 1)
        with pytest.raises(Exception, match="eadline"):
            hers.list_models(timeout=0.5)
        assert his.list_models(timeout=PATIENCE)
        idle.close()
        assert hers.list_models(timeout=PATIENCE)


def test_answer_that_is_not_taken_counts_as_a_call_and_is_no_error(
    tiny_bundles: dict[Cell, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_calls_per_caller=3) as running,
        RawConnection(running.address, window=0) as deaf,
        connected(running.address) as stub,
    ):
        for _ in range(3):
            deaf.call(LIST)
            deaf.read_until(HEADERS)
        with refused("CALLER_BUSY"):
            stub.generate("abc", 5)
        deaf.close()
        wait_for(lambda: not running.server.doors.gate.running)
        assert stub.generate("abc", 5).text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.slow
def test_calls_that_are_hung_up_on_at_once_leave_nothing_behind(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with serve(str(tiny_bundles["gru"]), max_calls_per_caller=1) as running:
        before = waiting_batches()
        for _ in range(8):
            with RawConnection(running.address) as hasty:
                for _ in range(1000):
                    hasty.begin(GENERATE)
        for _ in range(20):
            with RawConnection(running.address, window=0) as deaf:
                deaf.call("/grpc.health.v1.Health/Watch")
                deaf.read_until(HEADERS)  # its first news waits for room
        with running.client() as client:  # gRPC has seen to all before it sees to this
            wait_for(lambda: bool(client.list_models()))
        wait_for(lambda: not running.server.doors.gate.running)
        wait_for(lambda: waiting_batches() - before < 10)


def waiting_batches() -> int:
    """How many things are under way in gRPC's core, for calls of this process."""
    gc.collect()
    return sum(type(each).__name__ == "CallbackWrapper" for each in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize("connections", [1, 4])
def test_burst_is_refused_with_a_status_of_ours_and_none_is_cancelled(
    tiny_bundles: dict[Cell, Path], connections: int
) -> None:
    async def burst(address: str) -> Counter[str]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
        stubs = [TextGenerationServiceStub(channel) for channel in channels]

        async def one(number: int) -> str:
            try:
                await stubs[number % connections].Generate(ask("abc", 3), timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                has_details = "grpc-status-details-bin" in dict(error.trailing_metadata() or ())
                return f"{error.code().name}, details: {has_details}"
            return "OK"

        codes = Counter(await asyncio.gather(*(one(number) for number in range(2000))))
        for channel in channels:
            await channel.close()
        return codes

    settings = {"max_calls_per_caller": 1, "rate_per_caller": 0.0}
    with serve(str(tiny_bundles["gru"]), **settings) as running, running.client() as client:
        held = client.stream("abc", GenerateOptions(max_new_symbols=ENDLESS))
        next(held)
        codes = asyncio.run(burst(running.address))
        held.close()
        wait_for(lambda: not running.server.doors.gate.running)  # a client knows before it counts
        refused = running.server.doors.calls.registry.get_sample_value(
            "unroll_requests_total",
            {"method": "Generate", "code": "RESOURCE_EXHAUSTED"},
        )
    assert refused == codes["RESOURCE_EXHAUSTED, details: True"]
    # The stream may end before the burst does; then calls are answered. Each way is one of ours.
    assert set(codes) <= {"RESOURCE_EXHAUSTED, details: True", "OK"}, codes
    assert codes["RESOURCE_EXHAUSTED, details: True"] > 0
