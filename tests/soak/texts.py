"""What clients do without a session."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import grpc

from tests.serving.running import NARROW
from tests.soak.account import TIMEOUT, Asker, Attempt, operation
from tests.soak.plan import Kind, Step
from tests.soak.server import OTHER
from unroll.client.aio import AsyncClient
from unroll.client.remote.connection import CHANNEL_OPTIONS
from unroll.errors import CancelledError, DeadlineError
from unroll.terms import SEED_LIMIT, Capsules

# A connection of one's own, that holds a few hundred symbols.
OWN = [*CHANNEL_OPTIONS, *NARROW, ("grpc.use_local_subchannel_pool", 1)]
SHORT, MIDDLE, LONG = 300, 2500, 12000  # symbols at most
ENDLESS = 60_000


@operation(Kind.GENERATE)
async def generate(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Wait for a whole text."""
    asked, client = step.text(SHORT, has_stops=True), step.chance.choice(asker.clients)
    heard = attempt.hear("", asked)
    heard.take(await client.generate(asked.prompt, asked.options(), timeout=TIMEOUT))


@operation(Kind.SAMPLES)
async def samples(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Wait for several continuations of one prompt."""
    asked, client = step.text(SHORT), step.chance.choice(asker.clients)
    asked = replace(asked, seed=asked.seed % (SEED_LIMIT - 8))
    count = step.chance.randint(2, 4)
    options = replace(asked.options(), sample_count=count)
    first = await client.generate(asked.prompt, options, timeout=TIMEOUT)
    for index, sample in enumerate((first, *first.further_samples)):
        attempt.hear("", replace(asked, seed=asked.seed + index)).take(sample)
    attempt.expect(1 + len(first.further_samples) == count, f"not {count} samples")


@operation(Kind.SCORE)
async def score(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Score a text."""
    asked = replace(step.text(1), prompt=step.symbols(step.chance.randint(1, MIDDLE)))
    client = step.chance.choice(asker.clients)
    attempt.score("", asked, await client.score(asked.prompt, timeout=TIMEOUT))


@operation(Kind.STREAM)
async def stream(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Read a text as it comes."""
    asked, client = step.text(MIDDLE, has_stops=True), step.chance.choice(asker.clients)
    pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
    await attempt.hear("", asked).read(pieces)


@operation(Kind.CANCEL)
async def cancel(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Read a few pieces of a long text and cancel."""
    asked, client = replace(step.text(1), new=ENDLESS), step.chance.choice(asker.clients)
    pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
    await attempt.hear("", asked).read(pieces, at_most=step.chance.randint(1, 6))


@operation(Kind.STALL)
async def stall(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Stop reading in the middle of a text for a while, then read on."""
    asked = step.text(MIDDLE)
    heard = attempt.hear("", asked)
    async with _narrow(asker, step) as client:
        pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
        heard.take(await anext(pieces))
        await asyncio.sleep(step.chance.uniform(0.2, 2.0))
        await heard.read(pieces)


@operation(Kind.DEADLINE)
async def deadline(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Stop reading for longer than the call may take."""
    asked, seconds = replace(step.text(1), new=ENDLESS), step.chance.uniform(0.05, 0.8)
    heard = attempt.hear("", asked)
    async with _narrow(asker, step) as client:
        pieces = client.stream(asked.prompt, asked.options(), timeout=seconds)
        try:
            heard.take(await anext(pieces))
            await asyncio.sleep(seconds)
            await heard.read(pieces)
        except DeadlineError as error:
            attempt.fail(error, DeadlineError)
        else:
            attempt.expect(not heard.is_whole, "ended well")


@operation(Kind.CLOSE, CancelledError)
async def close(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Close the channel in the middle of a text."""
    asked = replace(step.text(1), new=ENDLESS)
    heard = attempt.hear("", asked)
    async with _narrow(asker, step) as client:
        pieces = client.stream(asked.prompt, asked.options(), timeout=TIMEOUT)
        heard.take(await anext(pieces))
        await client.close()
        try:
            await heard.read(pieces)
        except asyncio.CancelledError:  # gRPC's way to tell, unless the soak is at its end
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return
        attempt.expect(not heard.is_whole, "a closed channel went on")


@operation(Kind.RESUME)
async def resume(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Read a good part of an endless text slowly, from whichever server is there."""
    asked = replace(step.text(1), new=ENDLESS)  # more than a connection holds: it is cut mid-way
    client, pause = step.chance.choice(asker.clients), step.chance.uniform(0.0, 0.2)
    heard = attempt.hear("", asked)
    pieces = client.stream(asked.prompt, asked.options(), resume=True, timeout=TIMEOUT)
    async with aclosing(pieces):
        async for piece in pieces:
            heard.take(piece)
            if len(heard.text) >= LONG:
                break
            await asyncio.sleep(pause)


@operation(Kind.CAPSULE)
async def capsule(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Read a text with a capsule in every piece, then go on elsewhere from one of them."""
    asked, rest = step.text(MIDDLE), step.text(SHORT)
    here, there = step.chance.sample(asker.clients, 2)
    heard = attempt.hear("", asked)
    options = asked.options(Capsules.EVERY_CHUNK)
    await heard.read(here.stream(asked.prompt, options, timeout=TIMEOUT))
    received, sealed = step.chance.choice(heard.capsules)
    more = attempt.hear(asked.prompt + heard.text[:received], rest)
    answer = await attempt.persist(
        lambda: there.generate(rest.prompt, rest.options(), capsule=sealed, timeout=TIMEOUT)
    )
    more.take(answer)


@operation(Kind.SWAPPED)
async def swapped(asker: Asker, step: Step, attempt: Attempt) -> None:
    """Generate with the model whose bundle is exchanged; the text is that of its fingerprint."""
    asked, client = replace(step.text(SHORT), prompt=""), step.chance.choice(asker.clients)
    options = replace(asked.options(), model=OTHER)
    answer = await client.generate("", options, timeout=TIMEOUT)
    heard = attempt.hear("", asked)
    heard.take(answer)
    heard.fingerprint = answer.completion.fingerprint


def _narrow(asker: Asker, step: Step) -> AsyncClient:
    target = step.chance.choice(asker.targets)
    return AsyncClient(channel=grpc.aio.insecure_channel(target, options=OWN))
