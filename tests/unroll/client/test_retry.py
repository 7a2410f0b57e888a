"""Calls that are made again: which, how often, and until when; over real connections."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.serving.running import ENDLESS, PATIENCE, serve
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.remote import retry
from unroll.client.remote.resume import Resumption
from unroll.client.remote.retry import JITTER, LONGEST_PAUSE, Attempts
from unroll.errors import (
    CallerBusyError,
    CancelledError,
    ClosedError,
    DeadlineError,
    InputError,
    OverloadedError,
    RateError,
    ServerError,
    SessionBusyError,
    StoreError,
    UnavailableError,
    UnrollError,
)
from unroll.options import GenerateOptions, Origin
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import add_TextGenerationServiceServicer_to_server
from unroll.wire import to_status

SOON = 0.01  # seconds
ENDED = pb.Completion(finish_reason=pb.FINISH_REASON_LENGTH)
ANSWERS = {
    "Generate": pb.GenerateResponse(completion=ENDED),
    "Score": pb.ScoreResponse(),
    "StartSession": pb.StartSessionResponse(session=pb.Session(id="a")),
    "GetSession": pb.GetSessionResponse(session=pb.Session(id="a")),
    "ForkSession": pb.ForkSessionResponse(),
    "RewindSession": pb.RewindSessionResponse(session=pb.Session(id="a")),
    "EndSession": pb.EndSessionResponse(),
    "GetModel": pb.GetModelResponse(),
    "ListModels": pb.ListModelsResponse(),
}


class Refusing:
    """A service that refuses calls as told and answers the others; keeps what was called."""

    address = ""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.refusals: list[UnrollError] = []

    def __getattr__(self, name: str) -> Any:
        return lambda _, context: self._answer(name, context)

    def _answer(self, name: str, context: grpc.ServicerContext) -> Any:
        self.called.append(name)
        if self.refusals:
            error = self.refusals.pop(0)
            if isinstance(error, UnavailableError):  # what gRPC says where no server is
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            context.abort_with_status(to_status(error))
        return ANSWERS[name]

    def calls_of(self, do: Callable[[], Any], *refusals: UnrollError) -> list[str]:
        """Do something while calls are refused; returns what was called."""
        self.called, self.refusals = [], list(refusals)
        do()
        return self.called


@pytest.fixture
def servicer() -> Iterator[Refusing]:
    """Run the service; it has an address."""
    refusing = Refusing()
    server = grpc.server(ThreadPoolExecutor(1))
    add_TextGenerationServiceServicer_to_server(refusing, server)  # type: ignore[arg-type]
    refusing.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield refusing
    server.stop(None).wait()


class Blocking:
    """The asyncio client, used as the blocking one is.

    Args:
        target: of the server.
        retries: as AsyncClient's.
    """

    def __init__(self, target: str, *, retries: int = 0) -> None:
        self._target, self._retries = target, retries

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            async with AsyncClient(self._target, retries=self._retries) as client:
                return await getattr(client, name)(*arguments, **options)

        return lambda *arguments, **options: asyncio.run(call(*arguments, **options))


@pytest.fixture(params=[Client, Blocking], ids=["threads", "asyncio"])
def face(request: pytest.FixtureRequest) -> Any:
    return request.param


def soon(error: UnrollError) -> UnrollError:
    error.retry_after = SOON
    return error


# What changes nothing at the server, and what does.
READING: dict[str, Callable[[Any], Any]] = {
    "Generate": lambda client: client.generate("a"),
    "Score": lambda client: client.score("a", session="a"),
    "GetSession": lambda client: client.get_session("a"),
    "GetModel": lambda client: client.get_model(),
    "ListModels": lambda client: client.list_models(),
}
CHANGING: dict[str, Callable[[Any], Any]] = {
    "Generate": lambda client: client.generate("a", session="a"),
    "StartSession": lambda client: client.start_session(),
}
REFUSED = (OverloadedError, CallerBusyError, RateError, ClosedError)  # before it began
UNCLEAR = (SessionBusyError, StoreError, UnavailableError)  # it may have begun


@pytest.mark.parametrize("method", READING)
def test_call_that_changes_nothing_is_repeated(
    face: Any, servicer: Refusing, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", SOON)
    client = face(servicer.address, retries=2)
    for kind in (*REFUSED, *UNCLEAR):
        refusals = [soon(kind("one")), soon(kind("two"))]
        assert servicer.calls_of(lambda: READING[method](client), *refusals) == [method] * 3


@pytest.mark.parametrize("method", CHANGING)
def test_call_that_changes_something_is_repeated_if_it_never_began(
    face: Any, servicer: Refusing, method: str
) -> None:
    client = face(servicer.address, retries=2)
    for kind in REFUSED:
        refusals = [soon(kind("one")), soon(kind("two"))]
        assert servicer.calls_of(lambda: CHANGING[method](client), *refusals) == [method] * 3
    for unclear in (*UNCLEAR, CancelledError):
        with pytest.raises(unclear):
            servicer.calls_of(lambda: CHANGING[method](client), soon(unclear("one")))
        assert servicer.called == [method]


def test_calls_of_a_session_are_repeated_by_the_same_rule(servicer: Refusing) -> None:
    with Client(servicer.address, retries=1) as client:
        session = client.get_session("a")
        reading: list[Callable[[], Any]] = [session.describe, lambda: session.score("a")]
        changing: list[Callable[[], Any]] = [
            session.generate,
            lambda: session.fork([1]),
            lambda: session.rewind(0),
            session.end,
        ]
        for do in (*reading, *changing):
            assert len(servicer.calls_of(do, soon(ClosedError("draining")))) == 2
        for do in reading:
            assert len(servicer.calls_of(do, UnavailableError("gone"))) == 2
        for do in changing:
            with pytest.raises(UnavailableError):
                servicer.calls_of(do, UnavailableError("gone"))
            assert len(servicer.called) == 1


@pytest.mark.parametrize(
    "error", [InputError("prompt", "no"), ServerError("bug"), DeadlineError("late")]
)
def test_call_that_would_fail_again_is_not_repeated(
    face: Any, servicer: Refusing, error: UnrollError
) -> None:
    with pytest.raises(type(error)):
        servicer.calls_of(lambda: face(servicer.address, retries=2).score("a"), error)
    assert servicer.called == ["Score"]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_last_refusal_is_told_after_so_many_retries(
    face: Any, servicer: Refusing, retries: int
) -> None:
    client = face(servicer.address, retries=retries)
    refusals = [soon(OverloadedError(f"refusal {index}")) for index in range(9)]
    with pytest.raises(OverloadedError) as caught:
        servicer.calls_of(lambda: client.score("a"), *refusals)
    assert str(caught.value) == f"refusal {retries}"
    assert caught.value.retry_after == SOON
    assert len(servicer.called) == retries + 1


def test_wait_that_the_timeout_does_not_allow_is_left_out(face: Any, servicer: Refusing) -> None:
    client = face(servicer.address, retries=2)
    with pytest.raises(RateError):
        servicer.calls_of(
            lambda: client.score("a", timeout=PATIENCE / 2), RateError("slower", PATIENCE)
        )
    assert len(servicer.called) == 1


def test_attempts_share_the_timeout_of_the_call() -> None:
    attempts = Attempts(3, PATIENCE, is_repeatable=True)
    first = attempts.seconds_left
    attempts.pause(soon(OverloadedError("full")))
    second = attempts.seconds_left
    assert first is not None
    assert second is not None
    assert 0 < second < first <= PATIENCE
    assert Attempts(3, None, is_repeatable=True).seconds_left is None


def test_pauses_are_as_long_as_asked_for_and_differ() -> None:
    pauses = [
        Attempts(1, None, is_repeatable=False).pause(RateError("slower", 2.0)) for _ in range(50)
    ]
    assert all(2.0 <= pause <= 2.0 * (1 + JITTER) for pause in pauses)
    assert len(set(pauses)) > 1


def test_pauses_double_where_no_server_tells_how_long() -> None:
    attempts, ends = Attempts(9, None, is_repeatable=True), []
    for _ in range(3):
        ends.append(attempts.pause(UnavailableError("nobody")))
    assert all(0.1 * 2**n <= end <= 0.1 * 2**n * (1 + JITTER) for n, end in enumerate(ends))


def test_unreasonable_wait_is_left_to_the_caller() -> None:
    with pytest.raises(RateError):
        Attempts(1, None, is_repeatable=True).pause(RateError("slower", LONGEST_PAUSE + 1))


def test_stream_is_resumed_when_the_server_says_once_all_have_been_tried() -> None:
    stream = Resumption("a", GenerateOptions(), Origin(), target_count=2, timeout=None)
    stream.begin()
    assert stream.break_off(RateError("slower", 5.0)) == 0
    assert stream.break_off(RateError("slower", 5.0)) == 5
    assert stream.break_off(OverloadedError("full")) < 1
    assert stream.break_off(RateError("slower", LONGEST_PAUSE + 1)) == LONGEST_PAUSE


def test_retries_are_checked() -> None:
    with pytest.raises(InputError, match="must be 0") as caught:
        Client(retries=-1)
    assert caught.value.field == "retries"


def test_busy_caller_gets_its_answer_once_its_stream_is_closed(
    tiny_bundles: dict[Cell, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unroll.client.remote.retry")
    with (
        serve(str(tiny_bundles["gru"]), max_calls_per_caller=1) as running,
        running.client() as reader,
        Client(running.address, retries=20) as client,
    ):
        stream = reader.stream("abc", GenerateOptions(max_new_symbols=ENDLESS))
        next(stream)
        closes = Closing(stream.close)
        logging.getLogger("unroll.client.remote.retry").addHandler(closes)
        try:
            assert client.generate("abc", timeout=PATIENCE).text
        finally:
            logging.getLogger("unroll.client.remote.retry").removeHandler(closes)
    assert "retrying in" in caplog.text


class Closing(logging.Handler):
    """Does something once a call is going to be made again.

    Args:
        close: what to do.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        super().__init__()
        self._close = close

    def emit(self, _: logging.LogRecord) -> None:
        self._close()
