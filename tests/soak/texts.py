"""What clients do without a session."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import grpc

from tests.soak.account import TIMEOUT, Asker, Claim
from tests.soak.plan import Kind, Step
from tests.soak.server import OTHER
from unroll.client.aio import AsyncClient
from unroll.client.remote.connection import CHANNEL_OPTIONS
from unroll.errors import CancelledError, DeadlineError
from unroll.results import Piece
from unroll.terms import SEED_LIMIT, Capsules

# A connection of one's own, that holds a few hundred symbols and not many thousands.
NARROW = [
    *(("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)),
    ("grpc.use_local_subchannel_pool", 1),
]
SHORT, MIDDLE, LONG = 300, 2500, 12000  # symbols at most
ENDLESS = 60_000
Operation = Callable[[Asker, Step], Awaitable[None]]


async def generate(asker: Asker, step: Step) -> None:
    """Wait for a whole text."""
    asked = step.text(SHORT, has_stops=True)
    client = asker.clients[step.below(2)]
    async with asker.doing(Kind.GENERATE) as attempt:
        heard = attempt.hear("", asked)
        heard.take(await client.generate(asked.prompt, asked.options(), timeout=TIMEOUT))


async def samples(asker: Asker, step: Step) -> None:
    """Wait for several continuations of one prompt."""
    asked = step.text(SHORT)
    asked = replace(asked, seed=asked.seed % (SEED_LIMIT - 8))
    client, count = asker.clients[step.below(2)], 2 + step.below(3)
    async with asker.doing(Kind.SAMPLES) as attempt:
        options = replace(asked.options(), sample_count=count)
        first = await client.generate(asked.prompt, options, timeout=TIMEOUT)
        for index, sample in enumerate((first, *first.further_samples)):
            attempt.hear("", replace(asked, seed=asked.seed + index)).take(sample)
        attempt.expect(1 + len(first.further_samples) == count, f"not {count} samples")


async def score(asker: Asker, step: Step) -> None:
    """Score a text."""
    asked = replace(step.text(1), prompt=step.symbols(1 + step.below(MIDDLE)))
    client = asker.clients[step.below(2)]
    async with asker.doing(Kind.SCORE) as attempt:
        attempt.score("", asked, await client.score(asked.prompt, timeout=TIMEOUT))


async def stream(asker: Asker, step: Step) -> None:
    """Read a text as it comes."""
    asked = step.text(MIDDLE, has_stops=True)
    client = asker.clients[step.below(2)]
    async with asker.doing(Kind.STREAM) as attempt:
        pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
        await attempt.hear("", asked).read(pieces)


async def cancel(asker: Asker, step: Step) -> None:
    """Read a few pieces of a long text and cancel."""
    asked = replace(step.text(1), new=ENDLESS)
    client, wanted = asker.clients[step.below(2)], 1 + step.below(6)
    async with asker.doing(Kind.CANCEL) as attempt:
        pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
        await attempt.hear("", asked).read(pieces, at_most=wanted)


async def stall(asker: Asker, step: Step) -> None:
    """Stop reading in the middle of a text for a while, then read on."""
    asked = step.text(MIDDLE)
    async with _narrow(asker, step) as client, asker.doing(Kind.STALL) as attempt:
        heard = attempt.hear("", asked)
        pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
        await _read_one(pieces, heard)
        await asyncio.sleep(step.seconds(0.2, 2.0))
        await heard.read(pieces)


async def deadline(asker: Asker, step: Step) -> None:
    """Stop reading for longer than the call may take."""
    asked = replace(step.text(1), new=ENDLESS)
    seconds = step.seconds(0.05, 0.8)
    async with _narrow(asker, step) as client, asker.doing(Kind.DEADLINE) as attempt:
        heard = attempt.hear("", asked)
        pieces = client.stream(asked.prompt, asked.options(), timeout=seconds)
        try:
            await _read_one(pieces, heard)
            await asyncio.sleep(seconds)
            await heard.read(pieces)
        except DeadlineError as error:
            attempt.fail(error, DeadlineError)
            return
        attempt.expect(not heard.is_whole, "ended well")


async def close(asker: Asker, step: Step) -> None:
    """Close the channel in the middle of a text."""
    asked = replace(step.text(1), new=ENDLESS)
    async with _narrow(asker, step) as client, asker.doing(Kind.CLOSE, CancelledError) as attempt:
        heard = attempt.hear("", asked)
        pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
        await _read_one(pieces, heard)
        await client.close()
        try:
            await heard.read(pieces)
        except asyncio.CancelledError:  # gRPC's way to tell, unless the soak is at its end
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return
        attempt.expect(not heard.is_whole, "a closed channel went on")


async def resume(asker: Asker, step: Step) -> None:
    """Read a good part of an endless text slowly, from whichever server is there."""
    asked = replace(step.text(1), new=ENDLESS)  # more than a connection holds: it is cut mid-way
    client, pause = asker.clients[step.below(2)], step.seconds(0.0, 0.2)
    async with asker.doing(Kind.RESUME) as attempt:
        heard = attempt.hear("", asked)
        pieces = client.stream(asked.prompt, asked.options(), resume=True, timeout=TIMEOUT)
        async with aclosing(pieces):
            async for piece in pieces:
                heard.take(piece)
                if len(heard.text) >= LONG:
                    break
                await asyncio.sleep(pause)


async def capsule(asker: Asker, step: Step) -> None:
    """Read a text with a capsule in every piece, then go on elsewhere from one of them."""
    asked, rest = step.text(MIDDLE), step.text(SHORT)
    here = step.below(2)
    async with asker.doing(Kind.CAPSULE) as attempt:
        heard = attempt.hear("", asked)
        options = asked.options(capsules=Capsules.EVERY_CHUNK)
        await heard.read(asker.clients[here].stream(asked.prompt, options, timeout=TIMEOUT))
        received, sealed = heard.capsules[step.below(len(heard.capsules))]
        more = attempt.hear(asked.prompt + heard.text[:received], rest)
        there = asker.clients[1 - here]
        more.take(
            await attempt.persist(
                lambda: there.generate(rest.prompt, rest.options(), capsule=sealed, timeout=TIMEOUT)
            )
        )


async def swapped(asker: Asker, step: Step) -> None:
    """Generate with the model whose bundle is exchanged; the text is that of its fingerprint."""
    asked = replace(step.text(SHORT), prompt="")
    client = asker.clients[step.below(2)]
    async with asker.doing(Kind.SWAPPED) as attempt:
        options = replace(asked.options(), model=OTHER)
        answer = await client.generate("", options, timeout=TIMEOUT)
        heard = attempt.hear("", asked)
        heard.take(answer)
        heard.fingerprint = answer.completion.fingerprint


async def _read_one(pieces: AsyncGenerator[Piece], heard: Claim) -> None:
    async for piece in pieces:
        heard.take(piece)
        return


def _narrow(asker: Asker, step: Step) -> AsyncClient:
    target = asker.targets[step.below(2)]
    return AsyncClient(channel=grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS + NARROW))


OPERATIONS: dict[Kind, Operation] = {
    Kind.GENERATE: generate,
    Kind.SAMPLES: samples,
    Kind.SCORE: score,
    Kind.STREAM: stream,
    Kind.CANCEL: cancel,
    Kind.STALL: stall,
    Kind.DEADLINE: deadline,
    Kind.CLOSE: close,
    Kind.RESUME: resume,
    Kind.CAPSULE: capsule,
    Kind.SWAPPED: swapped,
}
