"""Clients on one event loop, and what they measure.

They call the stubs with requests that are serialised already and read nothing but the text, so that
the load that they can make depends on gRPC alone.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import grpc

from benchmarks.load.settings import Channels, LoadSettings, Mode
from benchmarks.load.tally import Tally
from unroll.client import messages
from unroll.client.connection import CHANNEL_OPTIONS, not_ready
from unroll.client.options import GenerateOptions
from unroll.terms import Capsules
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

SEEDS_A_CLIENT = 2**24
PAUSE_SECONDS = 0.1  # after a request that failed, so that a server in trouble is not hammered


class Load:
    """Some of a load's clients.

    Args:
        settings: of the whole load.
        numbers: of these clients.
    """

    def __init__(self, settings: LoadSettings, numbers: range) -> None:
        self._settings = settings
        self._numbers = numbers
        self._tally = Tally(symbols=[0.0] * len(numbers))
        self._opens = self._closes = float("inf")
        self._busy = 0.0  # processor time before the measuring
        self._left = len(numbers)  # clients whose last text that counts is under way
        self._last_answers = asyncio.Event()

    async def run(self) -> None:
        """Ask until the time is over; cancelled, it keeps what was measured."""
        async with AsyncExitStack() as stack:
            channels = await self._connect(stack)
            self._opens = time.perf_counter() + self._settings.warm_up
            self._closes = self._opens + self._settings.seconds
            tasks = [
                asyncio.create_task(self._ask(channel, index, self._numbers[index]))
                for index, channel in enumerate(channels)
            ]
            try:
                await self._measure()
            finally:
                self._closes = min(self._closes, time.perf_counter())
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # raises what should not have happened

    def tally(self) -> Tally:
        """Return what was measured so far."""
        now = min(time.perf_counter(), self._closes)
        self._tally.seconds = max(now - self._opens, 0.0)
        if now < self._closes and self._tally.seconds:
            self._tally.busy_seconds = time.process_time() - self._busy
        return self._tally

    async def _measure(self) -> None:
        await asyncio.sleep(self._opens - time.perf_counter())
        self._busy = time.process_time()
        await asyncio.sleep(self._closes - time.perf_counter())
        self._tally.busy_seconds = time.process_time() - self._busy
        if self._settings.mode is Mode.UNARY:  # texts under way count for the part before the end
            await self._last_answers.wait()

    async def _connect(self, stack: AsyncExitStack) -> list[grpc.aio.Channel]:
        """Open each client's channel; on a busy server, connecting would look like waiting."""
        count, seconds = len(self._numbers), self._settings.timeout
        own = count if self._settings.channels is Channels.OWN else 1
        channels = [await stack.enter_async_context(self._channel(index)) for index in range(own)]
        try:
            async with asyncio.timeout(seconds):
                for channel in channels:
                    await channel.channel_ready()
        except TimeoutError:
            raise not_ready(self._settings.target, seconds) from None
        return channels * (count // own)

    def _channel(self, index: int) -> grpc.aio.Channel:
        # gRPC gives channels with equal options one connection unless told not to.
        own = [("grpc.use_local_subchannel_pool", 1), ("unroll.load.client", index)]
        return grpc.aio.insecure_channel(self._settings.target, options=CHANNEL_OPTIONS + own)

    async def _ask(self, channel: grpc.aio.Channel, index: int, number: int) -> None:
        """Be one client: ask for one text after the other until cancelled."""
        streams = self._settings.mode is Mode.STREAM
        ask = self._stream if streams else self._whole
        method = _stream_method(channel) if streams else _unary_method(channel)
        counts = True
        for request in serialised_requests(self._settings, number):
            try:
                await ask(method, request, index)
            except grpc.RpcError as error:
                if self._is_open(time.perf_counter()):
                    self._tally.errors[error.code().name] += 1
                await asyncio.sleep(PAUSE_SECONDS)
            if counts and time.perf_counter() >= self._closes:
                counts = False  # but it goes on, so that the others' last texts are under load
                self._left -= 1
                if not self._left:
                    self._last_answers.set()

    async def _stream(self, method: Any, request: bytes, index: int) -> None:
        tally, now = self._tally, time.perf_counter
        asked = before = now()
        with _cancelling(method(request, timeout=self._settings.timeout)) as call:
            async for message in call:
                came = now()
                symbols = len(message.text)
                if self._is_open(came):
                    tally.symbols[index] += symbols
                    (tally.gaps if before > asked else tally.first).add(came - before)
                before = came
        if self._is_open(before):
            tally.requests += 1
            tally.whole.add(before - asked)

    async def _whole(self, method: Any, request: bytes, index: int) -> None:
        asked = time.perf_counter()
        answer = await method(request, timeout=self._settings.timeout)
        ended = time.perf_counter()
        common = min(ended, self._closes) - max(asked, self._opens)
        if common > 0:
            self._tally.symbols[index] += len(answer.text) * common / (ended - asked)
        if self._is_open(ended):
            self._tally.requests += 1
            self._tally.whole.add(ended - asked)

    def _is_open(self, moment: float) -> bool:
        return self._opens <= moment < self._closes


def serialised_requests(settings: LoadSettings, number: int) -> Iterator[bytes]:
    """Yield a client's requests, each with a seed that no other request of the load has."""
    options = GenerateOptions(
        model=settings.model,
        max_new_symbols=settings.new_symbols,
        temperature=settings.temperature,
        log_probs=settings.log_probs,
        capsules=None if settings.capsules else Capsules.NEVER,
        seed=0,
    )
    message = messages.generate_request(settings.prompt, options)
    for seed in range(settings.seed + number * SEEDS_A_CLIENT, 2**63):
        message.seed = seed
        yield message.SerializeToString()


@contextmanager
def _cancelling(call: Any) -> Iterator[Any]:
    try:
        yield call
    finally:
        call.cancel()  # nothing to an ended call


def _stream_method(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream(
        f"/{SERVICE}/StreamGenerate",
        response_deserializer=pb.StreamGenerateResponse.FromString,
    )


def _unary_method(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        f"/{SERVICE}/Generate", response_deserializer=pb.GenerateResponse.FromString
    )
