"""One character, asked for again and again, beside an echo: what a call costs without any work.

`python -m benchmarks.served.calls --port 0 --port-file FILE` is the echo; it takes any free port.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.served.record import OneCharacter
from serving.process import write_port
from serving.runtime.decoder import FREE, Decoder, LoopRun
from unroll.client.load.clients import serialised_requests, unary_method
from unroll.client.load.settings import LoadSettings
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

WARM_UP = 20


def measure_one_character(
    server: str, echo: str, decoder: Decoder, calls: int, worker_core: int
) -> OneCharacter:
    """Call both servers, each at HOST:PORT, and make the step alone, in turn, one at a time."""
    pin = partial(os.sched_setaffinity, 0, {worker_core})
    with ThreadPoolExecutor(1, initializer=pin) as engine:
        return asyncio.run(_measure(server, echo, partial(engine.submit, _step, decoder), calls))


async def _measure(
    server: str, echo: str, step: Callable[[], Future[float]], calls: int
) -> OneCharacter:
    requests = serialised_requests(LoadSettings(new_symbols=1), 0)
    times = OneCharacter(generate=[], echo=[], compute=[])
    async with grpc.aio.insecure_channel(server) as there, grpc.aio.insecure_channel(echo) as back:
        generate, repeat = unary_method(there), unary_method(back)
        for number in range(-WARM_UP, calls):
            echoed, generated = await _time(repeat, requests), await _time(generate, requests)
            computed = await asyncio.wrap_future(step())
            if number >= 0:
                times.echo.append(echoed)
                times.generate.append(generated)
                times.compute.append(computed)
    return times


async def _time(method: Any, requests: Iterator[bytes]) -> float:
    request = next(requests)
    started = time.perf_counter()
    answer = await method(request)
    seconds = time.perf_counter() - started
    assert len(answer.text) == 1
    return seconds


def _step(decoder: Decoder) -> float:
    step = LoopRun.plain(np.zeros(1, np.int64), np.full((1, 1), FREE), np.full((1, 1), 0.5, "f"))
    state = decoder.zero_state(1)
    started = time.perf_counter()
    decoder.run(step, state)
    return time.perf_counter() - started


async def _echo(request: pb.GenerateRequest, context: object) -> pb.GenerateResponse:
    return pb.GenerateResponse(text="e")


async def serve_echo(port_file: Path) -> None:
    """Answer every Generate with a character until the process ends; the port is written."""
    generate = grpc.unary_unary_rpc_method_handler(
        _echo,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    server = grpc.aio.server()
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"Generate": generate})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_port(port_file, port)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve_echo(Path(sys.argv[-1])))  # as `running` starts it
