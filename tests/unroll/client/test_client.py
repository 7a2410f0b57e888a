"""The two clients: the same values, typed errors, and calls that end with their iterators."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest

from serving.settings import ServerSettings
from tests.ports import free_port
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, wait_for
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.remote.answers import check_ended, read_generation, read_piece
from unroll.client.remote.requests import generate_request
from unroll.errors import (
    CancelledError,
    DeadlineError,
    InputError,
    ServerError,
    UnavailableError,
    UnknownModelError,
    UnknownSymbolError,
)
from unroll.options import GenerateOptions
from unroll.results import Generation
from unroll.v1 import text_generation_pb2 as pb

NOBODY = "127.0.0.1:1"  # a port that no user may listen on
ASKED = GenerateOptions(max_new_symbols=200, seed=9, log_probs=True)
LONG = GenerateOptions(max_new_symbols=ENDLESS)


def use(server: RunningServer, do: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncClient(server.address) as client:
            await do(client)

    asyncio.run(main())


def test_both_clients_get_the_same(client: Client, shared_server: RunningServer) -> None:
    async def compare(other: AsyncClient) -> None:
        await other.wait_until_ready(PATIENCE)
        assert await other.generate("abc", ASKED) == client.generate("abc", ASKED)
        assert await other.score("abc") == client.score("abc")
        assert await other.list_models() == client.list_models()
        assert await other.get_model("lstm") == client.get_model("lstm")
        pieces = [piece async for piece in other.stream("abc", ASKED)]
        whole = client.generate("abc", ASKED)
        assert "".join(piece.text for piece in pieces) == whole.text
        assert pieces[-1].completion == whole.completion

    use(shared_server, compare)


def test_many_streams_at_once_are_those_one_by_one(
    client: Client, shared_server: RunningServer
) -> None:
    async def compare(other: AsyncClient) -> None:
        async def text(seed: int) -> str:
            options = GenerateOptions(max_new_symbols=400, seed=seed)
            return "".join([piece.text async for piece in other.stream("abc", options)])

        together = await asyncio.gather(*map(text, range(40)))
        for seed in (0, 17, 39):
            options = GenerateOptions(max_new_symbols=400, seed=seed)
            assert together[seed] == client.generate("abc", options).text
        assert len(set(together)) == 40

    use(shared_server, compare)


def test_asynchronous_errors_are_typed(shared_server: RunningServer) -> None:
    async def fail(client: AsyncClient) -> None:
        with pytest.raises(UnknownSymbolError):
            await client.generate("한")
        with pytest.raises(UnknownModelError):
            await client.get_model("other")
        with pytest.raises(InputError) as caught:
            await anext(client.stream("abc", GenerateOptions(top_k=-1)))
        assert caught.value.field == "top_k"
        with pytest.raises(DeadlineError):
            await client.generate("abc", LONG, timeout=0.1)

    use(shared_server, fail)


def test_closing_an_asynchronous_stream_frees_the_slot(shared_server: RunningServer) -> None:
    async def leave(client: AsyncClient) -> None:
        async with aclosing(client.stream("abc", LONG)) as stream:
            assert (await anext(stream)).text
            assert len(shared_server.sequences()) == 1
        await asyncio.to_thread(wait_for, lambda: len(shared_server.sequences()) == 0)

    use(shared_server, leave)


def test_cancelled_task_frees_the_slot(shared_server: RunningServer) -> None:
    async def leave(client: AsyncClient) -> None:
        task = asyncio.ensure_future(client.generate("abc", LONG))
        await asyncio.to_thread(wait_for, lambda: len(shared_server.sequences()) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_for, lambda: len(shared_server.sequences()) == 0)

    use(shared_server, leave)


def test_leaving_a_loop_over_a_stream_frees_the_slot(
    client: Client, shared_server: RunningServer
) -> None:
    for piece in client.stream("abc", LONG):
        assert piece.text
        break
    wait_for(lambda: len(shared_server.sequences()) == 0)


def test_closing_the_client_ends_its_calls(shared_server: RunningServer) -> None:
    client = shared_server.client()
    stream = client.stream("abc", LONG)
    next(stream)
    client.close()
    with pytest.raises(CancelledError):
        list(stream)
    wait_for(lambda: len(shared_server.sequences()) == 0)


def test_server_that_is_not_there_is_unavailable() -> None:
    with Client(NOBODY) as client:
        for call in (client.list_models, lambda: client.generate("abc")):
            with pytest.raises(UnavailableError, match=f"^{NOBODY}: .*is a server running there"):
                call()
        with pytest.raises(UnavailableError, match=r"no server was ready there within 0\.2 s"):
            client.wait_until_ready(0.2)


def test_client_waits_for_a_server_that_is_starting(tiny_bundles: dict[Cell, Path]) -> None:
    port = free_port()
    later = RunningServer(ServerSettings(model=(str(tiny_bundles["gru"]),), port=port))
    with Client(f"127.0.0.1:{port}") as client:
        starting = threading.Timer(0.3, later.__enter__)
        started = time.monotonic()
        starting.start()
        client.wait_until_ready(PATIENCE)
        assert time.monotonic() - started > 0.2
        assert client.generate("abc").text
    starting.join()
    later.__exit__()


def test_own_channel_is_used_and_closed(shared_server: RunningServer) -> None:
    channel = grpc.insecure_channel(shared_server.address)
    with Client(channel=channel) as client:
        assert client.list_models()
    with pytest.raises(ValueError, match="closed channel"):
        channel.unary_unary("/any")(b"")  # type: ignore[arg-type]


def test_unset_options_are_left_to_the_server() -> None:
    message = generate_request("", GenerateOptions())
    for field in ("max_new_symbols", "seed", "sampling"):
        assert not message.HasField(field)
    message = generate_request("", GenerateOptions(temperature=0.0, seed=0))
    assert message.HasField("seed")
    assert message.sampling.HasField("temperature")
    assert not message.sampling.HasField("top_k")


@pytest.mark.parametrize(
    ("field", "prompt", "options"),
    [
        ("prompt", "a\ud800", GenerateOptions()),
        ("model", "", GenerateOptions(model="\udfff")),
        ("stop[1]", "", GenerateOptions(stop=("a", "\ud800"))),
        ("replacement_symbol", "", GenerateOptions(replacement_symbol="\ud800")),
    ],
)
def test_value_that_cannot_be_sent_is_named(
    field: str, prompt: str, options: GenerateOptions
) -> None:
    with pytest.raises(InputError, match="cannot be sent") as caught:
        generate_request(prompt, options)
    assert caught.value.field == field


def test_answers_that_this_client_does_not_know_are_errors() -> None:
    with pytest.raises(ServerError, match="without a completion"):
        check_ended(read_piece(pb.StreamGenerateResponse(text="a")))
    with pytest.raises(ServerError, match="without a completion"):
        check_ended(None)
    strange = pb.GenerateResponse(completion=pb.Completion(finish_reason=9))  # type: ignore[arg-type]
    with pytest.raises(ServerError, match="finish reason 9 is unknown"):
        read_generation(strange)


def test_long_tuples_stay_out_of_representations(client: Client) -> None:
    written = client.generate("abc", ASKED)
    assert isinstance(written, Generation)
    assert "log_probs" not in repr(written)


def test_client_needs_no_runtime() -> None:
    code = (
        "import sys, unroll.client.client, unroll.client.aio, unroll.client.commands.ask\n"
        "assert not {'onnxruntime', 'torch', 'onnx'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_http_port_is_told_as_one() -> None:
    with (
        HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server,
        Client(f"127.0.0.1:{server.server_port}") as client,
        ThreadPoolExecutor(1) as thread,
    ):
        thread.submit(server.serve_forever)
        try:
            with pytest.raises(UnavailableError, match="looks like an HTTP port; give the server"):
                client.list_models()
        finally:
            server.shutdown()


def test_target_without_a_port_is_refused() -> None:
    with pytest.raises(InputError, match="'localhost', without a port; give HOST:PORT"):
        Client("localhost")
