"""A worker: makes loop runs of the sequences in its slots."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from serving.engine.pacing import RunLength
from serving.engine.prefixes import is_boundary
from serving.engine.request import Chunk
from serving.engine.rows import Taken
from serving.engine.sequence import Delivery, Sequence
from serving.engine.slots import Slots
from serving.engine.snapshot import NO_LOG_PROBS
from serving.runtime.decoder import LoopRun, State
from serving.runtime.host import Written
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import EngineError
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

    def step(self, steps: int | None = None, *, is_awaited: bool = False) -> Delivery:
        """Make one loop run of the sequences in the slots; return what can be delivered.

        Where their automata are more than one loop run has room for, some wait for the next.

        Args:
            steps: how long it is, up to LONGEST_RUN; None for as long as it should be.
            is_awaited: whether others wait for their slots.
        """
        rows = self.slots.arrange()
        left, may_stop = rows.steps[rows.held], rows.may_stop[rows.held]
        if steps is None:
            until_first = rows.until_first()
            steps = self._length.steps(left, may_stop, until_first, is_awaited=is_awaited)
        made = np.minimum(left, steps)
        read = int(np.minimum(rows.reading[rows.held], made).sum())
        run = rows.run(steps, made)
        before = {row: self.slots.read(row) for row in rows.may_go_back(steps)}
        began = time.perf_counter()
        written = self.slots.run(run)
        ended = time.perf_counter()
        self._length.learn(len(made), steps, began, ended)
        self._count(len(made), steps, int(made.sum()), read, ended - began)
        ends = Ends()
        delivery = self._collect(run, written, before, ends)
        self.slots.counts.wasted_steps.inc(len(made) * steps - int(made.sum()) + ends.excess)
        if may_stop.any():
            self._length.learn_stops(int(made[may_stop].sum()) - ends.excess, ends.stops)
        return delivery

    def _count(self, rows: int, steps: int, made: int, read: int, seconds: float) -> None:
        counts = self.slots.counts
        counts.rows.observe(rows)
        counts.steps.observe(steps)
        counts.row_steps.inc(rows * steps)
        counts.run_seconds.observe(seconds)
        counts.symbols_read.inc(read)
        counts.symbols_written.inc(made - read)

    def _collect(
        self, run: LoopRun, written: Written, before: dict[Sequence, State], ends: "Ends"
    ) -> Delivery:
        now, rows = time.monotonic(), self.slots.rows
        news, begun = rows.advance(written, run.steps, now, len(self._vocabulary))
        for row in rows.at(begun.tolist()):
            row.times.note_first(self.slots.counts, now, is_text=True)
        slots = rows.held[news].tolist()
        taken = rows.take(slots)
        patience = self._chunk_seconds * len(rows.held)
        likeliest = dict(zip(run.asking.tolist(), written.likeliest, strict=True))
        delivery: Delivery = []
        for index, slot, row, (ids, log_probs, states), text in zip(
            news.tolist(), slots, rows.at(slots), taken, self._texts(taken), strict=True
        ):
            try:
                symbols = self._vocabulary.decode(ids) if text is None else text
                alternatives = likeliest.get(index)
                chunk = row.take(
                    ids, symbols, log_probs, len(ids), now, patience, alternatives, states
                )
                ends.note(row)
                if row.keeps_prefixes and is_boundary(row.done, len(row.request.prompt)):
                    self._keep_prefix(row, self.slots.read(row))
                if chunk is not None and _wants_snapshot(row, chunk):
                    if chunk.finish is not None and row.excess:
                        self.slots.write(row, before[row])
                        kept = written.tokens[: run.steps[index] - row.excess, index]
                        row.settle(int(run.tokens[index]), kept, chunk)
                        rows.put(slot, row)
                        continue
                    chunk = replace(chunk, snapshot=row.snapshot(self.slots.read(row)))
                if chunk is not None:
                    self._note(row, chunk, now)
                if chunk is None or not chunk.is_last:
                    rows.go_on(slot, row)
            except Exception:  # of this row alone; the others' texts go on
                log.exception("a request failed; the engine continues")
                chunk = _failed_chunk(row)
            if chunk is not None:
                delivery.append((row, chunk))
        return delivery

    def _texts(self, taken: list[Taken]) -> Iterator[str | None]:
        """Decode the ids of several rows in one go; none where one has no symbol."""
        ids = np.concatenate([each for each, _, _ in taken]) if taken else np.zeros(0, np.int64)
        is_known = not len(ids) or ids.view(np.uint64).max() < len(self._vocabulary)
        text = self._vocabulary.text_of(ids) if is_known else ""  # negative ones are huge there
        end = 0
        for each, _, _ in taken:
            begin, end = end, end + len(each)
            yield text[begin:end] if is_known else None

    def _note(self, row: Sequence, chunk: Chunk, now: float) -> None:
        counts, times, is_text = self.slots.counts, row.times, row.request.max_new_symbols > 0
        if times.first is None and (row.has_written or chunk.is_last):
            times.note_first(counts, now, is_text)
        times.note_chunk(counts, now, row.is_streamed, chunk.is_last and is_text)


@dataclass
class Ends:
    """How stop strings and patterns ended the texts of a loop run.

    Attributes:
        stops: how many they ended.
        excess: steps that were made behind them.
    """

    stops: int = 0
    excess: int = 0

    def note(self, row: Sequence) -> None:
        """Count a row that has taken in what was written."""
        self.stops += row.has_stopped
        self.excess += row.excess


def _failed_chunk(row: Sequence) -> Chunk:
    return Chunk(
        text="",
        log_probs=NO_LOG_PROBS,
        error=EngineError("the text cannot continue; details are only in the server log"),
        generated=row.generated,
    )


def _wants_snapshot(sequence: Sequence, chunk: Chunk) -> bool:
    wanted = sequence.request.snapshots
    return wanted is Capsules.EVERY_CHUNK or (wanted is Capsules.FINAL and chunk.is_last)
