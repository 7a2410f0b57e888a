"""One character, asked for again and again, beside an echo."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import grpc
import numpy as np

from benchmarks.load.clients import serialised_requests
from benchmarks.load.settings import LoadSettings
from serving.runtime.decoder import FREE, Decoder, LoopRun
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

WARM_UP = 20

Method = Callable[[bytes], Awaitable[pb.GenerateResponse]]


@dataclass(frozen=True, kw_only=True)
class OneCharacter:
    """Seconds of each call.

    Attributes:
        generate: of Generate for one character.
        echo: of an echo of the same messages.
        compute: of the step that Generate takes, in the decoder alone: by a thread that slept
            before, as the engine's thread does between two calls.
    """

    generate: list[float] = field(default_factory=list)
    echo: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)

    @property
    def times_compute(self) -> float:
        """What Generate costs beyond an echo, in units of its compute (medians)."""
        generate, echo, compute = map(statistics.median, (self.generate, self.echo, self.compute))
        return (generate - echo) / compute


def measure_one_character(
    server: str, echo: str, decoder: Decoder, *, calls: int, worker_core: int
) -> OneCharacter:
    """Call both servers, each at HOST:PORT, and make the step alone, in turn, one at a time."""
    pin = partial(os.sched_setaffinity, 0, {worker_core})
    with ThreadPoolExecutor(1, initializer=pin) as engine:

        def step() -> Awaitable[float]:
            return asyncio.wrap_future(engine.submit(_timed_step, decoder))

        return asyncio.run(_measure(server, echo, step, calls))


async def _measure(
    server: str, echo: str, step: Callable[[], Awaitable[float]], calls: int
) -> OneCharacter:
    requests = serialised_requests(LoadSettings(new_symbols=1), 0)
    times = OneCharacter()
    async with grpc.aio.insecure_channel(server) as there, grpc.aio.insecure_channel(echo) as back:
        generate, repeat = _method(there), _method(back)
        for number in range(-WARM_UP, calls):
            taken = await _time(repeat, requests), await _time(generate, requests), await step()
            if number >= 0:
                for samples, seconds in zip(
                    (times.echo, times.generate, times.compute), taken, strict=True
                ):
                    samples.append(seconds)
    return times


def _method(channel: grpc.aio.Channel) -> Method:
    method: Any = channel.unary_unary(
        f"/{SERVICE}/Generate", response_deserializer=pb.GenerateResponse.FromString
    )
    return cast(Method, method)


async def _time(method: Method, requests: Iterator[bytes]) -> float:
    request = next(requests)
    started = time.perf_counter()
    answer = await method(request)
    seconds = time.perf_counter() - started
    assert len(answer.text) == 1
    return seconds


def _timed_step(decoder: Decoder) -> float:
    call = LoopRun(
        tokens=np.zeros(1, np.int64),
        forced=np.full((1, 1), FREE),
        uniform=np.full((1, 1), 0.5, np.float32),
        steps=np.ones(1, np.int64),
        temperature=np.ones(1, np.float32),
        top_k=np.zeros(1, np.int64),
        top_p=np.ones(1, np.float32),
        min_p=np.zeros(1, np.float32),
    )
    state = decoder.zero_state(1)
    started = time.perf_counter()
    decoder.run(call, state)
    return time.perf_counter() - started
