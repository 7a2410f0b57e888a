"""What goes out after loop runs, made on a thread of its own while the next run computes."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from serving.engine.counts import EngineCounts
from serving.engine.rows.lines import Taken
from serving.engine.sequences.request import Chunk
from serving.engine.sequences.sequence import Delivery, Sequence
from serving.engine.sequences.snapshot import NO_LOG_PROBS
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import EngineError

FEW = 4  # chunks that the worker's own thread delivers: they wait for nobody
CLOSE_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Batch:
    """What goes out together.

    Attributes:
        now: time.monotonic() at the end of the loop run that gave it; None if none did.
        begun: whose text has its first symbol by it.
        chunks: to deliver.
        ended: whose last chunk is still to be made.
        taken: what their rows wrote.
    """

    now: float | None = None
    begun: list[Sequence] = field(default_factory=list)
    chunks: Delivery = field(default_factory=list)
    ended: list[Sequence] = field(default_factory=list)
    taken: Iterable[Taken] = ()

    @property
    def is_small(self) -> bool:
        """Whether the worker's own thread delivers it."""
        return len(self.chunks) + len(self.ended) <= FEW


class Outbox:
    """Makes the chunks of texts that ended, counts and delivers; batches go out in order.

    Args:
        vocabulary: of the model.
        counts: of the engine.
        deliver: hands chunks to their readers; what it raises is logged.
    """

    def __init__(
        self, vocabulary: Vocabulary, counts: EngineCounts, deliver: Callable[[Delivery], None]
    ) -> None:
        self._vocabulary = vocabulary
        self._counts = counts
        self._deliver = deliver
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the next
        self._pending = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; without it, and for a few chunks, whoever puts a batch sends it."""
        self._thread = threading.Thread(target=self._loop, name="engine-outbox", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what was put, and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)
            self._thread = None

    def put(self, batch: Batch) -> None:
        """Send a batch; to put it into a queue does not let go of Python's lock."""
        with self._lock:
            if self._thread is not None and (self._pending or not batch.is_small):
                self._pending += 1
                self._queue.put(batch)
                return
        self._send(batch)

    def _loop(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._send(batch)
            with self._lock:
                self._pending -= 1

    def _send(self, batch: Batch) -> None:
        delivery = [*batch.chunks]
        taken = list(batch.taken)
        for row, (ids, log_probs, _), text in zip(
            batch.ended, taken, texts_of(self._vocabulary, taken), strict=True
        ):
            delivery.append((row, self._last(row, ids, log_probs, text)))
        if delivery:
            try:
                self._deliver(delivery)
            except Exception:  # the event loop that it goes to may be gone; the engine stays
                log.exception("a delivery failed; its readers miss %d chunks", len(delivery))
        if batch.now is not None:
            for row in batch.begun:
                row.times.note_first(self._counts, batch.now, is_text=True)
            for row, chunk in delivery:
                note_chunk(self._counts, row, chunk, batch.now)

    def _last(
        self,
        row: Sequence,
        ids: NDArray[np.int64],
        log_probs: NDArray[np.float32],
        text: str | None,
    ) -> Chunk:
        try:
            assert text is not None
            chunk = row.take(ids, text, log_probs, len(ids), inf)
            assert chunk is not None
        except Exception:  # of this row alone
            log.exception("a request failed; the engine continues")
            return failed_chunk(row)
        return chunk


def call_listeners(delivery: Delivery) -> None:
    """Hand each chunk to its sequence's listener, on the calling thread; log one that raises."""
    for sequence, chunk in delivery:
        try:
            sequence.listener(chunk)
        except Exception:  # one reader's failure must not end the others' texts
            log.exception("a listener failed; its reader misses a chunk")


def nobody(chunk: Chunk) -> None:
    """Listen to the chunks that nobody waits for."""


def note_chunk(counts: EngineCounts, row: Sequence, chunk: Chunk, now: float) -> None:
    """Count a chunk that is complete by `now`, a time.monotonic()."""
    times, is_text = row.times, row.request.max_new_symbols > 0
    if times.first is None and (row.has_written or chunk.is_last):
        times.note_first(counts, now, is_text)
    times.note_chunk(counts, now, row.is_streamed, chunk.is_last and is_text)


def texts_of(vocabulary: Vocabulary, taken: list[Taken]) -> Iterator[str | None]:
    """Decode the ids of several rows in one go; None for all where one has no symbol."""
    ids = np.concatenate([each for each, _, _ in taken]) if taken else np.zeros(0, np.int64)
    is_known = not len(ids) or ids.view(np.uint64).max() < len(vocabulary)  # -1 is huge there
    text = vocabulary.text_of(ids) if is_known else ""
    end = 0
    for each, _, _ in taken:
        begin, end = end, end + len(each)
        yield text[begin:end] if is_known else None


def failed_chunk(row: Sequence) -> Chunk:
    """Return the end of a sequence that cannot go on."""
    return Chunk(
        text="",
        log_probs=NO_LOG_PROBS,
        error=EngineError("the text cannot continue; details are only in the server log"),
        generated=row.generated,
    )
