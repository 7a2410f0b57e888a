"""One sequence's output, awaited on the event loop."""

import asyncio
from types import TracebackType
from typing import Self

import numpy as np

from serving.engine.engine import Engine
from serving.engine.request import Chunk, SequenceRequest
from serving.engine.sequence import Sequence
from serving.runtime.likeliest import Likeliest


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
    )
