"""Texts as engines write them: opened for a call, then taken whole or piece by piece."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from types import TracebackType
from typing import Self

import numpy as np

from serving.constraints.automaton import FREE
from serving.engine.engine import Engine
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.sequence import Sequence
from serving.texts.asker import Asker
from serving.texts.biases import by_symbol
from serving.texts.constraint import constrain
from serving.texts.limits import Limits
from serving.texts.loop import one_error
from serving.texts.origins import Origin, Origins, Place
from serving.texts.parse.generate import GenerateParser, Parsed
from unroll.options import GenerateOptions
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


class Texts:
    """Opens texts.

    Args:
        origins: finds what they go on from.
        limits: what they may ask for.
    """

    def __init__(self, origins: Origins, limits: Limits) -> None:
        self._origins = origins
        self.limits = limits

    def sharing(self, parts: int) -> "Texts":
        """Return one of whose answers so many fit into one message."""
        limits = replace(self.limits, message=self.limits.message // parts)
        return Texts(self._origins, limits)

    @asynccontextmanager
    async def open(
        self,
        asker: Asker,
        place: Place,
        prompt: str | list[int],
        options: GenerateOptions,
        *,
        is_streamed: bool,
        logit_bias: Mapping[int, float] | None = None,
    ) -> AsyncIterator["Text"]:
        """Find what a request goes on from, keep a session for it, and translate the request.

        Args:
            asker: whose calls the further samples count as until the block's end.
            place: where it asks to begin.
            prompt: the text to continue, or its token ids; the start symbol's may come first.
            options: how.
            is_streamed: whether the text shall come in chunks.
            logit_bias: in place of the options', by token id.

        Raises:
            UnrollError: see Origins.open, constrain and GenerateParser.
        """
        async with self._origins.open(place, asker.identity) as origin:
            asker.model = origin.model.name
            vocabulary = origin.model.bundle.vocabulary
            if not isinstance(prompt, str):
                prompt = vocabulary.read("prompt", prompt[1:] if origin.begins(prompt) else prompt)
            if logit_bias is not None:
                options = replace(options, logit_bias=by_symbol(logit_bias, vocabulary))
            constraint = FREE
            if options.pattern or options.json_schema or origin.pattern:
                automata = self._origins.automata
                constraint = await constrain(options, origin, automata, asker.account)
            parsed = GenerateParser(
                options=options,
                origin=origin,
                limits=self.limits,
                asker=asker,
                constraint=constraint,
                is_streamed=is_streamed,
            ).parse(prompt)
            asker.symbols_read += len(parsed.request.prompt)
            more = parsed.samples - 1
            with asker.hold(more) if more else nullcontext():
                yield Text(self._origins, origin, parsed, asker)


class Text:
    """Runs the samples of one request; its session advances with the last chunk.

    Args:
        origins: seals capsules and keeps sessions.
        origin: what the request goes on from.
        parsed: what it asks for.
        asker: who asks; what is written counts as theirs.
    """

    def __init__(self, origins: Origins, origin: Origin, parsed: Parsed, asker: Asker) -> None:
        self._origins = origins
        self._asker = asker
        self.origin = origin
        self.parsed = parsed

    async def wholes(self) -> list[Part]:
        """Return all of each sample, once all have ended."""
        samples = await self._samples()
        if len(samples) == 1:
            chunks = [await whole(self.origin, samples[0])]
        else:
            engine = self.origin.model.engine
            async with one_error(), asyncio.TaskGroup() as group:
                tasks = [group.create_task(_gathered(engine, sample)) for sample in samples]
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

    async def _part(self, sample: SequenceRequest, index: int, chunk: Chunk) -> Part:
        """Describe a chunk; with the last one of a session's answer, the session advances."""
        if chunk.snapshot is not None and chunk.finish:
            is_whole = chunk.finish is not FinishReason.SHUTDOWN
            await self._origins.advance(self.origin, sample, chunk.snapshot, is_whole=is_whole)
        return self.part(sample, index, chunk)

    def part(self, sample: SequenceRequest, index: int, chunk: Chunk) -> Part:
        """Count and describe a chunk, outside a session."""
        self._asker.symbols_written += len(chunk.text)
        capsule = b""
        if chunk.snapshot is not None and self.parsed.wants_capsule:
            capsule = self._origins.seal(self.origin, sample, chunk.snapshot)
        return Part(sample=sample, index=index, chunk=chunk, capsule=capsule)


async def whole(origin: Origin, sample: SequenceRequest) -> Chunk:
    """Run a request of the engine's and return all that comes of it."""
    engine = origin.model.engine
    chunk = engine.run_inline(sample)
    if chunk is None:
        return await _gathered(engine, sample)
    if chunk.error is not None:
        raise chunk.error
    return chunk


async def _gathered(engine: Engine, sample: SequenceRequest) -> Chunk:
    async with Reply(engine, sample) as reply:
        return await reply.whole()


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
        self._read = chunks[0] if len(chunks) == 1 else Chunk.joined(chunks)
        if self._read.error is not None and not len(self._read.log_probs):
            raise self._read.error
        return self._read

    async def whole(self) -> Chunk:
        """Return all that is still to come as one chunk, once the sequence has ended well."""
        return Chunk.joined([chunk async for chunk in self])

    def _put(self, chunk: Chunk) -> None:
        self._waiting.append(chunk)
        self._arrived.set()
