"""Short requests that run on the thread that makes them, while no worker has anything to do."""

import logging
import threading
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from serving.engine.counts import EngineCounts
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.sequence import Sequence
from serving.engine.workers.outbox import failed_chunk, note_chunk
from serving.engine.workers.worker import wants_snapshot
from serving.runtime.decoder import FREE, Decoder, LoopRun, State
from unroll.bundle.vocabulary import Vocabulary

INLINE_SECONDS = 5e-4  # for how long the caller's thread may be kept from its other work
REMEMBERED = 5  # runs
FORGOTTEN_SECONDS = 10.0  # after which a run no longer tells how long another takes

log = logging.getLogger(__name__)


class Inline:
    """Makes the loop run of a short request on the calling thread.

    To hand a request to a worker's thread, and what came back again, takes longer than a short run.
    Its text is the same: a row's bits do not depend on who shares its runs. Any thread may use it.

    Args:
        vocabulary: of the model.
        decoder: runs its loop.
        counts: of the engine.
    """

    def __init__(self, vocabulary: Vocabulary, decoder: Decoder, counts: EngineCounts) -> None:
        self._vocabulary = vocabulary
        self._decoder = decoder
        self._counts = counts
        self._lock = threading.Lock()  # guards the next two
        self._step_seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._learned = -FORGOTTEN_SECONDS  # time.monotonic() of the last

    def fits(self, request: SequenceRequest, now: float) -> bool:
        """Tell whether a request is short and plain enough.

        While few such runs have shown how long a step takes, a single step is.

        Args:
            request: what is asked for.
            now: time.monotonic().
        """
        is_late = request.deadline is not None and now + INLINE_SECONDS >= request.deadline
        is_ruled = request.automaton is not None or request.sampling.logit_bias
        if is_late or is_ruled or request.alternatives:
            return False
        steps = len(request.prompt) + request.max_new_symbols - request.held
        with self._lock:
            if now - self._learned >= FORGOTTEN_SECONDS:
                self._step_seconds.clear()
            known = list(self._step_seconds)
        if len(known) < REMEMBERED and steps == 1:
            return True
        return bool(known) and steps * min(known) <= INLINE_SECONDS  # noise only adds to a time

    def run(self, sequence: Sequence) -> Chunk:
        """Run a sequence that has just come to its end; return all that comes of it."""
        request, now = sequence.request, time.monotonic()
        sequence.times.began = now
        self._counts.queue_seconds.observe(now - sequence.times.came)
        steps, read, before = sequence.left, len(request.prompt), self._state_of(sequence)
        forced = np.full(steps, FREE)
        forced[:read] = request.prompt
        began = time.perf_counter()
        result = self._decoder.run(_loop_run(sequence, forced), before)
        seconds = time.perf_counter() - began
        self._learn(seconds / steps)
        self._counts.count_run(1, steps, made=steps, read=read, seconds=seconds)
        ids, now = result.tokens[:, 0], time.monotonic()
        try:
            token, text = sequence.token, self._vocabulary.text_of(ids)
            chunk = sequence.take(ids, text, result.log_probs[:, 0], steps, now)
            assert chunk is not None, "all steps were made"
            if wants_snapshot(request, chunk):
                state = result.state
                if sequence.excess:  # the text ended before, and so shall the state
                    kept = _loop_run(sequence, ids[: steps - sequence.excess], token)
                    state = self._decoder.run(kept, before).state
                chunk.snapshot = sequence.snapshot({k: each[:, 0] for k, each in state.items()})
        except Exception:  # of this request alone
            log.exception("a request failed; the engine continues")
            chunk = failed_chunk(sequence)
        self._counts.wasted_steps.inc(sequence.excess)
        note_chunk(self._counts, sequence, chunk, now)
        return chunk

    def _state_of(self, sequence: Sequence) -> State:
        if sequence.state is None:
            return self._decoder.zero_state(1)
        return {name: tensor[:, None] for name, tensor in sequence.state.items()}

    def _learn(self, seconds: float) -> None:
        with self._lock:
            self._step_seconds.append(seconds)
            self._learned = time.monotonic()


def _loop_run(sequence: Sequence, forced: NDArray[np.int64], token: int | None = None) -> LoopRun:
    """Describe the loop run of one row.

    Args:
        sequence: whose row.
        forced: the symbol that comes next, or FREE, at each step, (T,).
        token: the last symbol, not yet consumed; by default the sequence's.
    """
    sampling = sequence.request.sampling
    return LoopRun(
        tokens=np.array([sequence.token if token is None else token]),
        forced=forced[:, None],
        uniform=sequence.uniform(len(forced))[:, None],
        steps=np.array([len(forced)]),
        temperature=np.array([sampling.temperature], np.float32),
        top_k=np.array([sampling.top_k]),
        top_p=np.array([sampling.top_p], np.float32),
        min_p=np.array([sampling.min_p], np.float32),
        is_scored=not sequence.request.max_new_symbols,
    )
