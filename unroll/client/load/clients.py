"""Clients on one event loop, and what they measure.

They call the stubs with requests that are serialised already and read nothing but the text, so that
the load that they can make depends on gRPC alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc

from unroll.client.load.settings import LoadSettings, Mode
from unroll.client.load.tally import Tally
from unroll.client.remote import requests
from unroll.client.remote.connection import channel_options, not_ready
from unroll.options import GenerateOptions
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
        self._security = settings.security
        self._numbers = numbers
        self._tally = Tally(symbols=[0.0] * len(numbers))
        self._left = len(numbers)  # clients whose last text that counts is under way
        self._last_answers = asyncio.Event()
        self._interrupted = asyncio.Event()

    def interrupt(self) -> None:
        """Let the time that is measured end now."""
        self._tally.closes = min(self._tally.closes, time.perf_counter())
        self._tally.is_cut_short = True
        self._interrupted.set()
        self._last_answers.set()  # those under way are not waited for

    async def run(self, begin: Callable[[], Awaitable[object]]) -> Tally:
        """Connect, await `begin`, ask until the time is over; return what was measured."""
        tally, settings = self._tally, self._settings
        async with AsyncExitStack() as stack:
            channels = await self._connect(stack)
            await begin()
            tally.opens = time.perf_counter() + settings.warm_up
            tally.closes = tally.opens + settings.seconds
            tasks = [
                asyncio.create_task(self._ask(channel, index))
                for index, channel in enumerate(channels)
            ]
            await self._measure()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # raises what should not have happened
        return tally

    async def _measure(self) -> None:
        await self._until(self._tally.opens)
        busy = time.process_time()
        await self._until(self._tally.closes)
        self._tally.busy_seconds = time.process_time() - busy
        if self._settings.mode is Mode.UNARY:  # texts under way count for the part before the end
            await self._last_answers.wait()

    async def _until(self, moment: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._interrupted.wait(), moment - time.perf_counter())

    async def _connect(self, stack: AsyncExitStack) -> list[grpc.aio.Channel]:
        """Open each client's channel; on a busy server, connecting would look like waiting."""
        target, seconds = self._settings.address, self._settings.timeout
        credentials = self._security.credentials()
        options = channel_options(is_encrypted=credentials is not None)
        channels = []
        for number in self._numbers:
            # gRPC gives channels with equal options one connection unless told not to.
            own = [("grpc.use_local_subchannel_pool", 1), ("unroll.client.load.client", number)]
            channel = (
                grpc.aio.insecure_channel(target, options=options + own)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=options + own)
            )
            channels.append(await stack.enter_async_context(channel))
        try:
            async with asyncio.timeout(seconds):
                for channel in channels:
                    await channel.channel_ready()
        except TimeoutError:
            raise not_ready(target, seconds) from None
        return channels

    async def _ask(self, channel: grpc.aio.Channel, index: int) -> None:
        """Be one client: ask for one text after the other until cancelled."""
        number = self._numbers[index]
        await asyncio.sleep(first_seconds(self._settings, number))
        authorized = self._security.authorize(channel)
        if self._settings.mode is Mode.STREAM:
            ask, method = self._stream, stream_method(authorized)
        else:
            ask, method = self._whole, unary_method(authorized)
        counts = True
        for request in serialised_requests(self._settings, number):
            try:
                await ask(method, request, index)
            except grpc.RpcError as error:
                if self._is_open(time.perf_counter()):
                    self._tally.errors[error.code().name] += 1
                await asyncio.sleep(PAUSE_SECONDS)
            if counts and time.perf_counter() >= self._tally.closes:
                counts = False  # but it goes on, so that the others' last texts are under load
                self._left -= 1
                if not self._left:
                    self._last_answers.set()

    async def _stream(self, method: Any, request: bytes, index: int) -> None:
        tally, now = self._tally, time.perf_counter
        asked = before = now()
        call = method(request, timeout=self._settings.timeout)
        try:
            async for message in call:
                came = now()
                if self._is_open(came):
                    tally.symbols[index] += len(message.text)
                    (tally.gaps if before > asked else tally.first).append(came - before)
                before = came
        finally:
            call.cancel()  # nothing to an ended call
        if self._is_open(before):
            tally.requests += 1
            tally.whole.append(before - asked)

    async def _whole(self, method: Any, request: bytes, index: int) -> None:
        tally, asked = self._tally, time.perf_counter()
        answer = await method(request, timeout=self._settings.timeout)
        ended = time.perf_counter()
        common = min(ended, tally.closes) - max(asked, tally.opens)
        if common > 0:
            tally.symbols[index] += len(answer.text) * common / (ended - asked)
        if self._is_open(ended):
            tally.requests += 1
            tally.whole.append(ended - asked)

    def _is_open(self, moment: float) -> bool:
        return self._tally.opens <= moment < self._tally.closes


def first_seconds(settings: LoadSettings, number: int) -> float:
    """Return when in the warm-up a client begins, in seconds.

    Clients that began at once, with texts of one length, would ask at the same instant ever after.
    """
    return settings.warm_up * number / settings.clients


def serialised_requests(settings: LoadSettings, number: int) -> Iterator[bytes]:
    """Yield a client's requests, each with a seed that no other request of the load has."""
    options = GenerateOptions(
        model=settings.model,
        max_new_symbols=settings.new_symbols,
        log_probs=settings.log_probs,
        capsules=None if settings.capsules else Capsules.NEVER,
        seed=0,
    )
    message = requests.generate_request(settings.prompt, options)
    for seed in range(settings.seed + number * SEEDS_A_CLIENT, 2**63):
        message.seed = seed
        yield message.SerializeToString()


def stream_method(channel: grpc.aio.Channel) -> Any:
    """Return StreamGenerate for requests that are serialised."""
    decode = pb.StreamGenerateResponse.FromString
    return channel.unary_stream(f"/{SERVICE}/StreamGenerate", response_deserializer=decode)


def unary_method(channel: grpc.aio.Channel) -> Any:
    """Return Generate for requests that are serialised."""
    decode = pb.GenerateResponse.FromString
    return channel.unary_unary(f"/{SERVICE}/Generate", response_deserializer=decode)
