"""The engine: one thread that turns sequences into text, many at a time.

    submit -> queue -> slot -> call, call, ... -> chunks -> deliver

Each step schedules, runs one call of the compiled loop, collects what came and delivers it.
Rows that read a prompt, rows that write and rows that score share a call.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.decoder import DecodeCall, Decoder, DecodeResult
from serving.errors import CancelledError, ClosedError, DeadlineError, EngineError
from serving.prefixes import PrefixCache, is_boundary
from serving.scheduler import CallLength, Scheduler, Slots
from serving.sequence import SHORTEST_PREFIX, Chunk, Sequence, SequenceRequest, Snapshots
from serving.snapshot import StateLayout
from serving.stops import FinishReason

Delivery = list[tuple[Sequence, Chunk]]
CLOSE_SECONDS = 10.0

log = logging.getLogger(__name__)


def call_listeners(delivery: Delivery) -> None:
    """Hand each chunk to its sequence's listener, on the calling thread; log one that raises."""
    for sequence, chunk in delivery:
        try:
            sequence.listener(chunk)
        except Exception:  # one reader's failure must not end the others' texts
            log.exception("a listener failed; its reader misses a chunk")


class Engine:
    """Runs the sequences of one model.

    Text is a function of the bundle, the prompt, the seed and the sampling parameters; who
    else is in the batch, when a sequence came and how calls are cut do not change a bit of it.

    Args:
        bundle: whose vocabulary.
        decoder: runs the bundle's loop.
        slots: rows of a call at most.
        queue_limit: sequences that may wait for a slot.
        call_seconds: how long a call may take.
        prefix_bytes: memory for the states of prompts that were read; 0 keeps none.
        deliver: called on the engine's thread with the chunks of each call; must not block.
    """

    def __init__(
        self,
        bundle: Bundle,
        decoder: Decoder,
        *,
        slots: int = 64,
        queue_limit: int = 1024,
        call_seconds: float = 0.01,
        prefix_bytes: int = 0,
        deliver: Callable[[Delivery], None] = call_listeners,
    ) -> None:
        self.bundle = bundle
        self.decoder = decoder
        self.layout = StateLayout(bundle.manifest.state)
        self.prefixes = PrefixCache(prefix_bytes)
        self._scheduler = Scheduler(Slots(decoder.zero_state(slots)), queue_limit)
        self._length = CallLength(call_seconds)
        self._deliver_unsafe = deliver
        self._changed = threading.Condition()  # guards the scheduler and the two below
        self._closing: ClosedError | None = None
        self._drain = False
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def submit(self, request: SequenceRequest, listener: Callable[[Chunk], None]) -> Sequence:
        """Queue a request; its chunks go to the listener through `deliver`.

        Raises:
            OverloadedError: the queue is full.
            ClosedError: the engine is closing.
        """
        sequence = Sequence(request, self.bundle.vocabulary, self.layout, listener)
        with self._changed:
            if self._closing is not None:
                raise ClosedError(*self._closing.args)  # raised again, one would keep all frames
            self._skip_prefix(sequence)
            self._scheduler.add(sequence)
            self._changed.notify()
        return sequence

    def _skip_prefix(self, sequence: Sequence) -> None:
        """Spare a prompt's reader what was read before; a score needs every symbol's."""
        request = sequence.request
        if request.origin is None and request.max_new_symbols and self.prefixes.is_on:
            sequence.keeps_prefixes = len(request.prompt) >= SHORTEST_PREFIX
            if sequence.keeps_prefixes and (prefix := self.prefixes.find(request.prompt)):
                sequence.skip(prefix)

    def cancel(self, sequence: Sequence) -> None:
        """Stop a sequence at the next call; it ends with CancelledError unless it has ended."""
        with self._changed:
            sequence.cancelled = True
            self._changed.notify()

    def mark_read(self, sequence: Sequence, symbols: int) -> None:
        """Tell that the reader has taken symbols; a stalled sequence may go on."""
        with self._changed:
            sequence.unread -= symbols
            self._changed.notify()

    def close(self, *, drain_seconds: float = 0.0) -> None:
        """Refuse new sequences, give running ones some time, end the rest, stop the thread."""
        with self._changed:
            self._closing = self._closing or ClosedError("the server is shutting down")
            self._drain = True
            self._changed.notify()
            self._changed.wait_for(lambda: len(self._scheduler) == 0, drain_seconds)
            self._drain = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
        elif self._thread.ident is None:  # it was never started
            with self._changed:
                self._end_all(self._closing)

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (rows := self._next_rows()) and self._goes_on:
                    self._changed.wait(self._patience())
                if not rows:
                    self._end_all(self._closing)
                    return
            try:
                delivery = self._step(rows)
            except Exception:
                log.exception("the engine failed; no sequence can go on")
                with self._changed:
                    self._closing = ClosedError("the engine failed; see the server's log")
                    self._end_all(self._closing)
                return
            self._deliver(delivery)

    @property
    def _goes_on(self) -> bool:
        return self._closing is None or (self._drain and len(self._scheduler) > 0)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            self._deliver_unsafe(delivery)
        except Exception:  # the event loop that it goes to may be gone; the engine stays
            log.exception("a delivery failed; its readers miss %d chunks", len(delivery))

    def _next_rows(self) -> list[Sequence]:
        """End what is cancelled or late, then schedule."""
        now = time.monotonic()
        delivery: Delivery = []
        for sequence in self._scheduler.everyone():
            deadline = sequence.request.deadline
            if sequence.cancelled:
                error: EngineError = CancelledError("the request was cancelled")
            elif deadline is not None and now >= deadline:
                error = DeadlineError("the deadline passed before the text was complete")
            else:
                continue
            self._scheduler.remove(sequence)
            delivery.append((sequence, sequence.fail(error)))
        if delivery:
            self._deliver(delivery)
            self._changed.notify_all()
        return self._scheduler.schedule() if self._goes_on else []

    def _patience(self) -> float | None:
        """How long to wait for a change while there is no row: until the nearest deadline."""
        deadlines = [
            sequence.request.deadline
            for sequence in self._scheduler.everyone()
            if sequence.request.deadline is not None
        ]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _step(self, rows: list[Sequence]) -> Delivery:
        steps = self._length.steps(rows)
        call = self._assemble(rows, steps)
        started = time.perf_counter()
        result = self.decoder.run(call)
        self._length.learn(len(rows), steps, time.perf_counter() - started)
        return self._collect(rows, call, result)

    def _assemble(self, rows: list[Sequence], steps: int) -> DecodeCall:
        sampling = [row.request.sampling for row in rows]
        return DecodeCall(
            tokens=np.array([row.token for row in rows], np.int64),
            forced=np.stack([row.forced(steps) for row in rows], axis=1),
            uniform=np.stack([row.uniform(steps) for row in rows], axis=1),
            steps=np.array([row.steps for row in rows], np.int64),
            temperature=np.array([s.temperature for s in sampling], np.float32),
            top_k=np.array([s.top_k for s in sampling], np.int64),
            top_p=np.array([s.top_p for s in sampling], np.float32),
            min_p=np.array([s.min_p for s in sampling], np.float32),
            state=self._scheduler.slots.gather(rows),
        )

    def _collect(self, rows: list[Sequence], call: DecodeCall, result: DecodeResult) -> Delivery:
        delivery: Delivery = []
        tokens, log_probs = result.tokens.T, result.log_probs.T  # (N, T)
        with self._changed:
            self._scheduler.slots.scatter(rows, result.state)
            for row, sequence in enumerate(rows):
                chunk = sequence.take(tokens[row], log_probs[row])
                self._keep_prefix(sequence)
                if chunk is not None:
                    chunk = self._with_snapshot(sequence, chunk, call, tokens[row], row)
                if chunk is None:
                    continue
                delivery.append((sequence, chunk))
                if chunk.is_last:
                    self._scheduler.remove(sequence)
            if not len(self._scheduler):
                self._changed.notify_all()
        return delivery

    def _keep_prefix(self, sequence: Sequence) -> None:
        prompt = sequence.request.prompt
        if sequence.keeps_prefixes and is_boundary(sequence.done, len(prompt)):
            state = self._scheduler.slots.read(sequence)
            self.prefixes.add(prompt[: sequence.done], sequence.snapshot(state))

    def _with_snapshot(
        self,
        sequence: Sequence,
        chunk: Chunk,
        call: DecodeCall,
        tokens: NDArray[np.int64],
        row: int,
    ) -> Chunk | None:
        """Add the snapshot that was asked for; None if the way back to it must be made first."""
        wanted = sequence.request.snapshots
        if wanted is Snapshots.NEVER or (wanted is Snapshots.FINAL and not chunk.is_last):
            return chunk
        slots = self._scheduler.slots
        if chunk.finish is FinishReason.STOP and sequence.excess:
            made = min(len(tokens), int(call.steps[row]))
            slots.write(sequence, {name: tensor[:, row] for name, tensor in call.state.items()})
            sequence.settle(int(call.tokens[row]), tokens[: made - sequence.excess], chunk)
            return None
        return replace(chunk, snapshot=sequence.snapshot(slots.read(sequence)))

    def _end_all(self, error: EngineError | None) -> None:
        assert error is not None
        ended = [(sequence, sequence.fail(error)) for sequence in self._scheduler.everyone()]
        for sequence, _ in ended:
            self._scheduler.remove(sequence)
        self._deliver(ended)
        self._changed.notify_all()
