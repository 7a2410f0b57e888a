"""A text that is being generated: its samples, whole or piece by piece."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from serving.engine.request import Chunk, SequenceRequest
from serving.texts.origins import Origin, Origins
from serving.texts.parse import Parsed
from serving.texts.reply import Reply
from unroll.terms import SEED_LIMIT, Capsules, FinishReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What came of one sample.

    Attributes:
        sample: which request of the engine's.
        index: of the sample, from 0.
        chunk: its next symbols, or all of them.
        capsule: of where the chunk ends; empty for none.
    """

    sample: SequenceRequest
    index: int
    chunk: Chunk
    capsule: bytes


class Text:
    """Runs the samples of one request; its session advances with the last chunk.

    Args:
        origins: seals capsules and keeps sessions.
        origin: what the request goes on from.
        parsed: what it asks for.
    """

    def __init__(self, origins: Origins, origin: Origin, parsed: Parsed) -> None:
        self._origins = origins
        self.origin = origin
        self.parsed = parsed

    async def wholes(self) -> list[Part]:
        """Return all of each sample, once all have ended."""
        samples = await self._samples()
        if len(samples) == 1:
            chunks = [await whole(self.origin, samples[0])]
        else:
            async with one_error(), asyncio.TaskGroup() as group:
                tasks = [group.create_task(whole(self.origin, sample)) for sample in samples]
            chunks = [task.result() for task in tasks]
        return [
            await self._part(sample, index, chunk)
            for index, (sample, chunk) in enumerate(zip(samples, chunks, strict=True))
        ]

    async def stream(self, send: Callable[[Part], Awaitable[None]]) -> None:
        """Send each chunk of each sample as it comes, one after another."""
        samples = await self._samples()
        if len(samples) == 1:
            await self._stream(samples[0], 0, send)
            return
        turn = asyncio.Lock()

        async def send_in_turn(part: Part) -> None:
            async with turn:
                await send(part)

        async with one_error(), asyncio.TaskGroup() as group:
            for index, sample in enumerate(samples):
                group.create_task(self._stream(sample, index, send_in_turn))

    async def _stream(
        self, sample: SequenceRequest, index: int, send: Callable[[Part], Awaitable[None]]
    ) -> None:
        async with Reply(self.origin.model.engine, sample) as reply:
            async for chunk in reply:
                if chunk.text or chunk.finish:
                    await send(await self._part(sample, index, chunk))

    async def read(self) -> Chunk:
        """Read the prompt alone, which must not be empty, and return its symbols' scores."""
        reading = replace(
            self.parsed.request,
            max_new_symbols=0,
            stop=(),
            snapshots=Capsules.FINAL,
            buffer_symbols=None,
            chunk_seconds=inf,
        )
        return await whole(self.origin, reading)

    async def _samples(self) -> list[SequenceRequest]:
        """Return one request for each sample; of several, the prompt has been read already."""
        request, count = self.parsed.request, self.parsed.samples
        if count == 1:
            return [request]
        start = (await self.read()).snapshot if len(request.prompt) else request.origin
        return [
            replace(
                request,
                prompt=np.zeros(0, np.int64),
                origin=start,
                seed=(request.seed + index) % SEED_LIMIT,
            )
            for index in range(count)
        ]

    def part_of(self, chunk: Chunk) -> Part:
        """Describe all of the only sample, outside a session."""
        sample, capsule = self.parsed.request, b""
        if chunk.snapshot is not None and self.parsed.wants_capsule:
            capsule = self._origins.seal(self.origin, sample, chunk.snapshot)
        return Part(sample=sample, index=0, chunk=chunk, capsule=capsule)

    async def _part(self, sample: SequenceRequest, index: int, chunk: Chunk) -> Part:
        """With the last chunk of a session's answer, the session advances."""
        capsule = b""
        if chunk.snapshot is not None:
            if chunk.finish:
                is_whole = chunk.finish is not FinishReason.SHUTDOWN
                await self._origins.advance(self.origin, sample, chunk.snapshot, is_whole=is_whole)
            if self.parsed.wants_capsule:
                capsule = self._origins.seal(self.origin, sample, chunk.snapshot)
        return Part(sample=sample, index=index, chunk=chunk, capsule=capsule)


async def whole(origin: Origin, sample: SequenceRequest) -> Chunk:
    """Run a request of the engine's and return all that comes of it."""
    async with Reply(origin.model.engine, sample) as reply:
        return await reply.whole()


@asynccontextmanager
async def one_error() -> AsyncIterator[None]:
    """Of the errors that samples ended with, raise the first."""
    try:
        yield
    except ExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
