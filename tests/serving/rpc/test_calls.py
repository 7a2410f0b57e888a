"""How calls end before their time, and how the server bears load and slow readers."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from serving.engine.sequences.sequence import Sequence
from serving.rpc import gate
from serving.rpc.servicer import TextGenerationServicer
from tests.serving.running import (
    ENDLESS,
    GROWING_SECONDS,
    NARROW,
    PATIENCE,
    RunningServer,
    serve,
    server_process,
    wait_for,
)
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import CancelledError, DeadlineError, InputError, OverloadedError
from unroll.options import GenerateOptions
from unroll.results import Piece
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub

LONG = GenerateOptions(max_new_symbols=ENDLESS, seed=3)


@pytest.mark.slow
def test_full_queue_refuses_and_works_again(tiny_bundles: dict[Cell, Path]) -> None:
    one_slot = serve(str(tiny_bundles["gru"]), slots=1, queue_limit=1)
    with one_slot as running, running.client() as client:
        first = client.stream("abc", LONG)
        next(first)
        second = client.stream("abc", LONG)
        waiter = threading.Thread(target=lambda: next(second))
        waiter.start()
        wait_for(lambda: len(running.sequences()) == 2)
        with pytest.raises(OverloadedError, match="the limit is 1; try again later"):
            client.generate("abc", LONG)
        first.close()
        waiter.join(PATIENCE)
        second.close()
        assert len(client.generate("abc", timeout=PATIENCE).text) == 256


def cancelled(server: RunningServer) -> float | None:
    """Count the streams that their clients ended."""
    return server.server.doors.calls.registry.get_sample_value(
        "unroll_requests_total", {"method": "StreamGenerate", "code": "CANCELLED"}
    )


def read_into(pieces: list[Piece], stream: Iterator[Piece]) -> None:
    pieces.extend(stream)  # keeps what came before an error


def test_deadline_ends_a_unary_call_and_frees_the_slot(
    client: Client, shared_server: RunningServer
) -> None:
    with pytest.raises(DeadlineError):
        client.generate("abc", LONG, timeout=0.2)
    wait_for(lambda: len(shared_server.sequences()) == 0)


def test_deadline_ends_a_stream_and_frees_the_slot(
    client: Client, shared_server: RunningServer
) -> None:
    pieces: list[Piece] = []
    for seconds in GROWING_SECONDS:
        with pytest.raises(DeadlineError):
            read_into(pieces, client.stream("abc", LONG, timeout=seconds))
        if pieces:
            break
    assert pieces
    wait_for(lambda: len(shared_server.sequences()) == 0)


def test_engine_stops_at_the_deadline_by_itself(
    client: Client, shared_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[Piece] = []
    told = "the deadline passed before the text was complete"
    for seconds in GROWING_SECONDS:
        ends = time.monotonic() + seconds
        monkeypatch.setattr(gate, "deadline_of", lambda context, ends=ends: ends)
        with pytest.raises(DeadlineError, match=told):
            read_into(pieces, client.stream("abc", LONG))
        if pieces:
            break
    assert pieces
    assert len(shared_server.sequences()) == 0


def test_closing_a_stream_frees_the_slot_without_a_fuss(
    client: Client, shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        stream = client.stream("abc", LONG)
        next(stream)
        assert len(shared_server.sequences()) == 1
        stream.close()
        wait_for(lambda: len(shared_server.sequences()) == 0)
    wait_for(lambda: not shared_server.server.doors.gate.running)
    assert not caplog.records


def test_cancelled_unary_call_frees_the_slot(shared_server: RunningServer) -> None:
    with grpc.insecure_channel(shared_server.address) as channel:
        request = pb.GenerateRequest(prompt="abc", max_new_symbols=ENDLESS)
        call = TextGenerationServiceStub(channel).Generate.future(request)
        wait_for(lambda: len(shared_server.sequences()) == 1)
        call.cancel()
        wait_for(lambda: len(shared_server.sequences()) == 0)
        assert call.cancelled()


def test_client_that_vanishes_frees_the_slot(shared_server: RunningServer) -> None:
    code = (
        "import sys; from unroll.client.client import Client\n"
        "from unroll.options import GenerateOptions\n"
        f"stream = Client(sys.argv[1]).stream('abc', GenerateOptions(max_new_symbols={ENDLESS}))\n"
        "next(stream); print('there', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, shared_server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert len(shared_server.sequences()) == 1
        process.kill()
    wait_for(lambda: len(shared_server.sequences()) == 0)


def test_handler_cancelled_by_anyone_else_still_answers(
    client: Client, shared_server: RunningServer
) -> None:
    def cancel_handlers() -> None:
        for task in shared_server.server.doors.gate.running:
            task.cancel()

    for _ in range(5):
        stream = client.stream("abc", LONG, timeout=PATIENCE)
        next(stream)
        shared_server.loop.call_soon_threadsafe(cancel_handlers)
        with pytest.raises(CancelledError):
            list(stream)
        wait_for(lambda: len(shared_server.sequences()) == 0)


def has_come_to_rest(running: RunningServer, sequence: Sequence) -> bool:
    """Whether its reader's connection is full: for a moment, every stream waits now and then."""
    position = sequence.position
    for _ in range(100):  # turns of the server, which take longer where it is busy
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.003), running.loop).result(PATIENCE)
    return sequence.is_stalled and sequence.position == position


def test_stalled_reader_pauses_only_itself(tiny_bundles: dict[Cell, Path]) -> None:
    asked = GenerateOptions(max_new_symbols=5000, seed=5, log_probs=True)
    with serve(str(tiny_bundles["gru"]), buffer_symbols=128, slots=2) as running:
        channel = grpc.insecure_channel(running.address, options=NARROW)
        with Client(channel=channel) as slow, running.client() as quick:
            stream = slow.stream("abc", asked, timeout=PATIENCE)
            pieces = [next(stream)]
            (stalled,) = running.sequences()
            wait_for(lambda: has_come_to_rest(running, stalled))
            position = stalled.position
            assert position < 4000
            other = quick.generate("abc", GenerateOptions(max_new_symbols=1000), timeout=PATIENCE)
            assert len(other.text) == 1000
            assert stalled.position == position
            pieces += stream
            expected = quick.generate("abc", asked, timeout=PATIENCE)
        assert "".join(piece.text for piece in pieces) == expected.text
        assert tuple(p for piece in pieces for p in piece.log_probs) == expected.log_probs


@pytest.mark.slow
def test_deadlines_that_pass_in_the_middle_of_a_write_are_no_fault_of_the_server(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    # gRPC lets some such writes fail before it says that the call is over: about 1 of 25.
    def ask(address: str, number: int) -> None:
        asked = GenerateOptions(max_new_symbols=65536, log_probs=True)
        own = [*NARROW, ("grpc.use_local_subchannel_pool", 1)]
        with Client(channel=grpc.insecure_channel(address, options=own)) as client:
            for turn in range(10):
                pieces = client.stream("abc", asked, timeout=0.05 + 0.01 * turn)
                with pytest.raises(DeadlineError):
                    read_slowly(pieces, 0.01 * (number % 7))

    def read_slowly(pieces: Iterable[Piece], pause: float) -> None:
        for _ in pieces:
            time.sleep(pause)

    arguments = ("--model", str(tiny_bundles["gru"]), "--buffer-symbols", "256")
    with server_process(tmp_path, *arguments, "--log-level", "warning") as (process, address):
        with ThreadPoolExecutor(24) as pool:
            for asking in [pool.submit(ask, address, number) for number in range(24)]:
                asking.result()
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert "internal error" not in errors
    assert process.returncode == 0


@pytest.mark.slow
def test_one_stalled_reader_among_64_holds_nobody_up(tiny_bundles: dict[Cell, Path]) -> None:
    asked = GenerateOptions(max_new_symbols=5000, seed=5)
    with serve(str(tiny_bundles["gru"]), buffer_symbols=128, slots=64) as running:
        channel = grpc.insecure_channel(running.address, options=NARROW)
        with Client(channel=channel) as slow, running.client() as quick:

            def read(seed: int) -> str:
                options = GenerateOptions(max_new_symbols=1000, seed=seed)
                pieces = quick.stream("abc", options, timeout=3 * PATIENCE)
                return "".join(piece.text for piece in pieces)

            stalled = slow.stream("abc", asked)
            received = next(stalled).text
            (sequence,) = running.sequences()
            wait_for(lambda: has_come_to_rest(running, sequence))
            position = sequence.position
            with ThreadPoolExecutor(63) as pool:
                texts = list(pool.map(read, range(63)))
            assert [len(text) for text in texts] == [1000] * 63
            assert sequence.position == position, "it waits for its reader, for ever if need be"
            received += "".join(piece.text for piece in stalled)
            assert received == quick.generate("abc", asked).text


def test_pieces_that_wait_are_joined(client: Client) -> None:
    stream = client.stream("abc", GenerateOptions(max_new_symbols=10_000))
    pieces = list(stream)
    assert len(pieces) < 1000, "a message costs more than the symbol in it"


@pytest.mark.slow
def test_client_that_fell_silent_is_gone_after_the_keepalive(
    tiny_bundles: dict[Cell, Path],
) -> None:
    alert = serve(
        str(tiny_bundles["gru"]),
        buffer_symbols=256,
        keepalive_seconds=1.0,
        keepalive_timeout_seconds=0.5,
    )
    with alert as running:
        # It takes so little at a time that most of the text is still to come when it falls silent.
        code = (
            "import grpc, sys; from unroll.client.client import Client\n"
            "from unroll.options import GenerateOptions\n"
            f"channel = grpc.insecure_channel(sys.argv[1], options={NARROW!r})\n"
            f"asked = GenerateOptions(max_new_symbols={ENDLESS})\n"
            "stream = Client(channel=channel).stream('abc', asked)\n"
            "next(stream); print('there', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, running.address]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"there\n"
                process.send_signal(signal.SIGSTOP)  # TCP still answers for it
                wait_for(lambda: cancelled(running) == 1)
                wait_for(lambda: not len(running.sequences()))
            finally:
                process.kill()


def test_refused_request_is_freed_at_once(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Large:
        """What a handler holds of a request."""

    held: list[weakref.ref[Large]] = []

    async def refuse(servicer: object, request: object, call: object) -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise InputError("model", "cannot be used")

    monkeypatch.setattr(TextGenerationServicer, "GetModel", refuse)
    with serve(str(tiny_bundles["gru"])) as running, running.client() as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(InputError):
                    client.get_model()
            wait_for(lambda: [each() for each in held] == [None] * 3)
        finally:
            gc.enable()
