"""A worker: makes loop runs of the sequences in its slots."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from serving.engine.rows.pacing import RunLength
from serving.engine.rows.row import News
from serving.engine.sequences.prefixes import is_boundary
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.sequence import Sequence
from serving.engine.workers.outbox import Batch, failed_chunk, texts_of
from serving.engine.workers.slots import Slots
from serving.engine.workers.step_times import Kind, StepTimes
from serving.runtime.decoder import LoopRun, State
from serving.runtime.host import Written
from unroll.bundle.vocabulary import Vocabulary
from unroll.terms import Capsules

log = logging.getLogger(__name__)


class Worker:
    """Advances the sequences in its slots, one run at a time. One thread uses it.

    Args:
        vocabulary: of the model.
        slots: where the sequences' states are.
        run_seconds: how long a loop run may take.
        chunk_seconds: how much time there shall be from one chunk to the next, whose ever they are.
        keep_prefix: called with a sequence at each boundary of its prompt, and its state there.
        step_times: learns how long the steps of one row take.

    Attributes:
        outgoing: what loop runs gave, until it is sent.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        slots: Slots,
        run_seconds: float,
        chunk_seconds: float,
        keep_prefix: Callable[[Sequence, State], None],
        step_times: StepTimes,
    ) -> None:
        self._vocabulary = vocabulary
        self.slots = slots
        self._length = RunLength(run_seconds)
        self._chunk_seconds = chunk_seconds
        self._keep_prefix = keep_prefix
        self._step_times = step_times
        self.outgoing: list[Batch] = []

    def step(
        self,
        steps: int | None = None,
        *,
        is_awaited: bool = False,
        on_begin: Callable[[], None] = lambda: None,
    ) -> Batch:
        """Make one loop run of all sequences in the slots; return what it gave.

        Args:
            steps: how long it is, up to LONGEST_RUN; None for as long as it should be.
            is_awaited: whether others wait for their slots.
            on_begin: called just before the loop run, which leaves Python to other threads.
        """
        came = time.perf_counter()
        rows = self.slots.arrange()
        left = rows.left
        if steps is None:
            until_first, known = rows.until_first(left), rows.known(left)
            steps = self._length.steps(
                left, rows.may_stop, until_first, known=known, is_awaited=is_awaited
            )
        made = np.minimum(left, steps)
        read, all_made = rows.read(made), int(made.sum())
        run = rows.run(steps, made)
        before = {row: self.slots.read(row) for row in rows.may_go_back(steps)}
        on_begin()
        began = time.perf_counter()
        written = self.slots.run(run)
        seconds = time.perf_counter() - began
        self.slots.counts.count_run(len(made), steps, made=all_made, read=read, seconds=seconds)
        if len(made) == 1:
            (row,) = rows.at(rows.held.tolist())
            self._step_times.learn(Kind.of(row.request), seconds / steps)
        batch = self._collect(run, written, before, all_made)
        pause = time.perf_counter() - came - seconds
        self._length.learn(len(made), steps, seconds, pause, is_read=read == all_made)
        return batch

    def _collect(
        self, run: LoopRun, written: Written, before: dict[Sequence, State], all_made: int
    ) -> Batch:
        rows, made, symbols = self.slots.rows, run.steps, len(self._vocabulary)
        now = time.monotonic()
        batch, news = Batch(now=now), rows.advance(written, made, all_made, now, symbols)
        batch.begun = rows.at(news.begun)
        batch.ended, batch.taken = rows.at(news.ended), rows.take(news.ended)
        if news.rows:
            self._take_news(news, run, written, before, batch)
        self.slots.counts.wasted_steps.inc(len(written.tokens) * len(made) - all_made + news.excess)
        if news.stoppable:
            self._length.learn_stops(news.stoppable - news.excess, news.stops)
        return batch

    def _take_news(
        self,
        news: News,
        run: LoopRun,
        written: Written,
        before: dict[Sequence, State],
        batch: Batch,
    ) -> None:
        """Let sequences take in what was written; count how they stopped, note their chunks."""
        rows, made = self.slots.rows, run.steps
        now = batch.now
        assert now is not None
        patience = self._chunk_seconds * len(made)
        likeliest = dict(zip(run.asking.tolist(), written.likeliest, strict=True))
        slots = rows.held[news.rows].tolist()
        taken = list(rows.take(slots))
        for index, slot, row, (ids, log_probs, states), text in zip(
            news.rows, slots, rows.at(slots), taken, texts_of(self._vocabulary, taken), strict=True
        ):
            try:
                known = self._vocabulary.decode(ids) if text is None else text
                alternatives = likeliest.get(index)
                chunk = row.take(
                    ids, known, log_probs, len(ids), now, patience, alternatives, states
                )
                news.stops += row.has_stopped
                news.excess += row.excess
                if row.keeps_prefixes and is_boundary(row.done, len(row.request.prompt)):
                    self._keep_prefix(row, self.slots.read(row))
                if chunk is not None and wants_snapshot(row.request, chunk):
                    if chunk.finish is not None and row.excess:
                        self.slots.write(row, before[row])
                        kept = written.tokens[: made[index] - row.excess, index]
                        row.settle(int(run.tokens[index]), kept, chunk)
                        rows.put([slot], [row])
                        continue
                    chunk = replace(chunk, snapshot=row.snapshot(self.slots.read(row)))
                if chunk is None or not chunk.is_last:
                    rows.go_on(slot, row)
            except Exception:  # of this row alone; the others' texts go on
                log.exception("a request failed; the engine continues")
                chunk = failed_chunk(row)
            if chunk is not None:
                batch.chunks.append((row, chunk))


def wants_snapshot(request: SequenceRequest, chunk: Chunk) -> bool:
    """Tell whether a chunk is to carry a snapshot."""
    wanted = request.snapshots
    return wanted is Capsules.EVERY_CHUNK or (wanted is Capsules.FINAL and chunk.is_last)
