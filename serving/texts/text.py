"""A text that is being generated: its samples, whole or piece by piece as its engine writes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import inf
from types import TracebackType
from typing import Self

import numpy as np

from serving.engine.engine import Engine
from serving.engine.request import Chunk, SequenceRequest
from serving.engine.sequence import Sequence
from serving.runtime.likeliest import Likeliest
from serving.texts.origins import Origin, Origins
from serving.texts.parse import Parsed
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


class Reply:
    """Submits a request and iterates over its chunks; leaving the block early cancels it.

        async with Reply(engine, request) as reply:
            async for chunk in reply: ...

    Chunks that came while the reader was busy are joined into one. Asking for the next tells the
    engine that the one before has been read. The engine must deliver on the reader's event loop.

    Args:
        engine: who runs the request.
        request: what to do.

    Raises:
        OverloadedError: on entering, the queue is full.
        ClosedError: on entering, or later from the iterator: the engine is closing.
        DeadlineError: from the iterator, after all text that came in time.
        CancelledError: from the iterator.
    """

    def __init__(self, engine: Engine, request: SequenceRequest) -> None:
        self._engine = engine
        self._request = request
        self._sequence: Sequence | None = None
        self._waiting: list[Chunk] = []
        self._arrived = asyncio.Event()
        self._read: Chunk | None = None  # what the reader had last

    async def __aenter__(self) -> Self:
        self._sequence = self._engine.submit(self._request, self._put)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sequence is not None:
            self._engine.cancel(self._sequence)  # nothing to an ended sequence

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        assert self._sequence is not None, "a reply is read within its `async with` block"
        if self._read is not None:
            if self._read.error is not None:
                raise self._read.error
            if self._read.is_last:
                raise StopAsyncIteration
            self._engine.mark_read(self._sequence, len(self._read.log_probs))
        await self._arrived.wait()
        self._arrived.clear()
        chunks, self._waiting = self._waiting, []
        self._read = join(chunks)
        if self._read.error is not None and not len(self._read.log_probs):
            raise self._read.error
        return self._read

    async def whole(self) -> Chunk:
        """Return all that is still to come as one chunk, once the sequence has ended well."""
        return join([chunk async for chunk in self])

    def _put(self, chunk: Chunk) -> None:
        self._waiting.append(chunk)
        self._arrived.set()


def join(chunks: list[Chunk]) -> Chunk:
    """Join one or more chunks that follow each other."""
    if len(chunks) == 1:
        return chunks[0]
    last = chunks[-1]
    # Where chunks have snapshots, an error adds no text: the text ends at the snapshot before it.
    snapshots = [chunk.snapshot for chunk in chunks if chunk.snapshot is not None]
    likeliest = [chunk.likeliest for chunk in chunks if chunk.likeliest is not None]
    return Chunk(
        text="".join([chunk.text for chunk in chunks]),
        log_probs=np.concatenate([chunk.log_probs for chunk in chunks]),
        finish=last.finish,
        error=last.error,
        generated=last.generated,
        position=last.position,
        snapshot=snapshots[-1] if snapshots else None,
        likeliest=Likeliest.joined(likeliest) if likeliest else None,
        is_match=last.is_match,
    )
