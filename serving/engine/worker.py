"""A worker: makes loop runs of the sequences in its slots."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.pacing import RunLength
from serving.engine.prefixes import is_boundary
from serving.engine.request import Chunk, SequenceRequest
from serving.engine.sequence import Delivery, Sequence
from serving.engine.slots import Slots
from serving.engine.snapshot import NO_LOG_PROBS
from serving.runtime.decoder import FREE, LoopRun, State
from serving.runtime.host import Written
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import EngineError
from unroll.terms import Capsules, FinishReason

log = logging.getLogger(__name__)


class Worker:
    """Advances the sequences in its slots, one run at a time. One thread uses it.

    Args:
        vocabulary: of the model.
        slots: where the sequences' states are.
        run_seconds: how long a loop run may take.
        chunk_seconds: how much time there shall be from one chunk to the next, whose ever they are.
        keep_prefix: called with a sequence at each boundary of its prompt, and its state there.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        slots: Slots,
        run_seconds: float,
        chunk_seconds: float,
        keep_prefix: Callable[[Sequence, State], None],
    ) -> None:
        self._vocabulary = vocabulary
        self.slots = slots
        self._length = RunLength(run_seconds)
        self._chunk_seconds = chunk_seconds
        self._keep_prefix = keep_prefix
        self._columns = _columns([])
        self._columns_of = slots.changes

    def step(
        self, rows: list[Sequence], steps: int | None = None, *, is_awaited: bool = False
    ) -> Delivery:
        """Make one loop run of all sequences in the slots; return what can be delivered.

        Args:
            rows: the sequences, in order.
            steps: how long it is; None for as long as it should be.
            is_awaited: whether others wait for their slots.
        """
        steps = steps or self._length.steps(rows, is_awaited=is_awaited)
        made = [min(row.steps, steps) for row in rows]
        run = self._assemble(rows, steps, made)
        before = {row: self.slots.read(row) for row in rows if row.may_go_back(steps)}
        began = time.perf_counter()
        written = self.slots.run(run)
        ended = time.perf_counter()
        self._length.learn(len(rows), steps, began, ended)
        self._count(run, sum(made), ended - began)
        delivery = self._collect(rows, run, written, made, before)
        self._count_ends(rows, steps, made)
        return delivery

    def _count_ends(self, rows: list[Sequence], steps: int, made: list[int]) -> None:
        """Count the steps that gave nothing, because a text had ended; learn when stops end one."""
        excess = sum(row.excess for row in rows)
        self.slots.counts.wasted_steps.inc(len(rows) * steps - sum(made) + excess)
        stoppable = [index for index, row in enumerate(rows) if row.request.stop]
        if stoppable:
            written = sum(made[index] - rows[index].excess for index in stoppable)
            stops = sum(rows[index].has_stopped for index in stoppable)
            self._length.learn_stops(written, stops)

    def _count(self, run: LoopRun, symbols: int, seconds: float) -> None:
        T, N = run.forced.shape
        counts = self.slots.counts
        counts.rows.observe(N)
        counts.steps.observe(T)
        counts.row_steps.inc(N * T)
        counts.run_seconds.observe(seconds)
        read = int(np.count_nonzero(run.forced != FREE))
        counts.symbols_read.inc(read)
        counts.symbols_written.inc(symbols - read)

    def _assemble(self, rows: list[Sequence], steps: int, made: list[int]) -> LoopRun:
        if self._columns_of != self.slots.changes:
            self._columns = _columns([row.request for row in rows])
            self._columns_of = self.slots.changes
        N = len(rows)
        forced = np.full((steps, N), FREE, np.int64)
        for index, row in enumerate(rows):
            if row.is_forced:
                known = row.forced(made[index])
                forced[: len(known), index] = known
        uniform = np.concatenate([row.uniform(steps) for row in rows]).reshape(N, steps)
        return LoopRun(
            tokens=np.array([row.token for row in rows], np.int64),
            forced=forced,
            uniform=np.ascontiguousarray(uniform.T),
            steps=np.array(made, np.int64),
            **self._columns,
        )

    def _collect(
        self,
        rows: list[Sequence],
        run: LoopRun,
        written: Written,
        made: list[int],
        before: dict[Sequence, State],
    ) -> Delivery:
        delivery: Delivery = []
        tokens = np.ascontiguousarray(written.tokens.T)  # (N, T)
        texts = self._texts(tokens)
        log_probs = np.ascontiguousarray(written.log_probs.T)  # (N, T)
        now = time.monotonic()
        patience = self._chunk_seconds * len(rows)
        likeliest = dict(zip(run.asking.tolist(), written.likeliest, strict=True))
        for index, row in enumerate(rows):
            try:
                text = self._vocabulary.decode(tokens[index]) if texts is None else texts[index]
                chunk = row.take(
                    tokens[index],
                    text,
                    log_probs[index],
                    made[index],
                    now,
                    patience,
                    likeliest.get(index),
                )
                if row.keeps_prefixes and is_boundary(row.done, len(row.request.prompt)):
                    self._keep_prefix(row, self.slots.read(row))
                if chunk is not None and _wants_snapshot(row, chunk):
                    if chunk.finish is FinishReason.STOP and row.excess:
                        self.slots.write(row, before[row])
                        kept = tokens[index][: made[index] - row.excess]
                        row.settle(int(run.tokens[index]), kept, chunk)
                        continue
                    chunk = replace(chunk, snapshot=row.snapshot(self.slots.read(row)))
                if chunk is not None or row.times.first is None:
                    self._note(row, chunk, now)
            except Exception:  # of this row alone; the others' texts go on
                log.exception("a request failed; the engine continues")
                chunk = _failed_chunk(row)
            if chunk is not None:
                delivery.append((row, chunk))
        return delivery

    def _texts(self, tokens: NDArray[np.int64]) -> list[str] | None:
        """Decode all rows' tokens, (N, T), in one go. None where one has no symbol."""
        N, T = tokens.shape
        if tokens.view(np.uint64).max() >= len(self._vocabulary):  # negative ones are huge there
            return None
        text = self._vocabulary.text_of(tokens.ravel())
        return [text[index * T : (index + 1) * T] for index in range(N)]

    def _note(self, row: Sequence, chunk: Chunk | None, now: float) -> None:
        counts, times, is_text = self.slots.counts, row.times, row.request.max_new_symbols > 0
        is_last = chunk is not None and chunk.is_last
        if times.first is None and (row.has_written or is_last):
            times.note_first(counts, now, is_text)
        if chunk is not None:
            times.note_chunk(counts, now, row.is_streamed, is_last and is_text)


def _failed_chunk(row: Sequence) -> Chunk:
    return Chunk(
        text="",
        log_probs=NO_LOG_PROBS,
        error=EngineError("the text cannot continue; details are only in the server log"),
        generated=row.generated,
    )


def _columns(requests: list[SequenceRequest]) -> dict[str, Any]:
    """Return what the rows of a loop run ask for by the field of LoopRun."""
    sampling = [request.sampling for request in requests]
    alternatives = [request.alternatives for request in requests]
    return {
        "temperature": np.array([s.temperature for s in sampling], np.float32),
        "top_k": np.array([s.top_k for s in sampling], np.int64),
        "top_p": np.array([s.top_p for s in sampling], np.float32),
        "min_p": np.array([s.min_p for s in sampling], np.float32),
        "asking": np.flatnonzero(alternatives),
        "alternatives": max(alternatives, default=0),
    }


def _wants_snapshot(sequence: Sequence, chunk: Chunk) -> bool:
    wanted = sequence.request.snapshots
    return wanted is Capsules.EVERY_CHUNK or (wanted is Capsules.FINAL and chunk.is_last)
