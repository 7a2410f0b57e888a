"""Short requests that run on the thread that makes them, while no worker has anything to do."""

import logging
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.counts import EngineCounts
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.sequence import Sequence
from serving.engine.workers.outbox import failed_chunk, note_chunk
from serving.engine.workers.step_times import REMEMBERED, Kind, StepTimes
from serving.engine.workers.time_share import TimeShare
from serving.engine.workers.worker import wants_snapshot
from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.sampling import SamplingParams, uniforms
from unroll.bundle.vocabulary import Vocabulary

INLINE_SECONDS = 2e-4  # for so long a run may keep the caller's thread from its other work

log = logging.getLogger(__name__)


class Inline:
    """Makes the loop run of a short request on the calling thread.

    To hand a request to a worker's thread, and what came back again, takes longer than a short run.
    Its text is the same: a row's bits do not depend on who shares its runs. Any thread may use it.

    Args:
        vocabulary: of the model.
        decoder: runs its loop.
        counts: of the engine.
        step_times: tells how long steps take, as workers' runs of one row have shown as well.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        decoder: Decoder,
        counts: EngineCounts,
        step_times: StepTimes,
    ) -> None:
        self._vocabulary = vocabulary
        self._decoder = decoder
        self._counts = counts
        self._zero = decoder.zero_state(1)
        self._step_times = step_times
        self._share = TimeShare()

    def fits(self, request: SequenceRequest, now: float) -> bool:
        """Tell whether a request is short and plain enough.

        While few such runs have shown how long a step takes, a single step is.

        Args:
            request: what is asked for.
            now: time.monotonic().
        """
        is_late = request.deadline is not None and now + INLINE_SECONDS >= request.deadline
        is_ruled = request.automaton is not None or request.sampling.logit_bias
        if is_late or is_ruled or request.alternatives or not self._share.is_left(now):
            return False
        steps = len(request.prompt) + request.max_new_symbols - request.held
        known = self._step_times.known(Kind.of(request), now)
        if len(known) < REMEMBERED and steps == 1:
            return True
        return bool(known) and steps * min(known) <= INLINE_SECONDS  # noise only adds to a time

    def run(self, sequence: Sequence) -> Chunk:
        """Run a sequence that has just come to its end; return all that comes of it."""
        now = sequence.times.began = time.monotonic()
        self._counts.queue_seconds.observe(now - sequence.times.came)
        run = _loop_run(sequence)
        state = self._zero if sequence.state is None else _alone(sequence.state)
        steps = len(run.forced)
        result, seconds = self._run(run, state, read=len(sequence.request.prompt))
        self._step_times.learn(Kind.of(sequence.request), seconds / steps)
        now = time.monotonic()
        try:
            chunk = self._take(sequence, result, now)
            if wants_snapshot(sequence.request, chunk):
                if sequence.excess:  # the text is left where it ended
                    kept = steps - sequence.excess
                    result, _ = self._run(_forced(run, result, kept), state, read=kept)
                    sequence.token = int(result.tokens[-1, 0])
                after = {name: tensor[:, 0] for name, tensor in result.state.items()}
                chunk.snapshot = sequence.snapshot(after)
        except Exception:  # of this request alone
            log.exception("a request failed; the engine continues")
            chunk = failed_chunk(sequence)
        self._counts.wasted_steps.inc(sequence.excess)
        note_chunk(self._counts, sequence, chunk, now)
        return chunk

    def _run(self, run: LoopRun, state: State, *, read: int) -> tuple[LoopResult, float]:
        """Make a loop run and count it; return what it gave and the seconds that it took.

        Args:
            run: of one row.
            state: of the row before it.
            read: how many of its steps read a symbol that is known.
        """
        began = time.perf_counter()
        result = self._decoder.run(run, state)
        seconds = time.perf_counter() - began
        steps = len(run.forced)
        self._share.spend(seconds)
        self._counts.count_run(1, steps, made=steps, read=read, seconds=seconds)
        return result, seconds

    def _take(self, sequence: Sequence, result: LoopResult, now: float) -> Chunk:
        ids = result.tokens[:, 0]
        text = self._vocabulary.decode(ids.tolist())
        chunk = sequence.take(ids, text, result.log_probs[:, 0], len(ids), now)
        assert chunk is not None, "all its steps were made"
        return chunk


def _loop_run(sequence: Sequence) -> LoopRun:
    """Describe the loop run that makes all steps of a sequence."""
    request, steps = sequence.request, sequence.left
    forced = np.full((steps, 1), FREE)
    forced[: len(request.prompt), 0] = request.prompt
    temperature, top_k, top_p, min_p = _parameters(request.sampling)
    return LoopRun(
        tokens=np.array([sequence.token]),
        forced=forced,
        uniform=uniforms(request.seed, sequence.position, steps)[:, None],
        steps=np.array([steps]),
        is_scored=not request.max_new_symbols,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
    )


@lru_cache(maxsize=64)
def _parameters(sampling: SamplingParams) -> tuple[NDArray[Any], ...]:
    """Return temperature, top_k, top_p and min_p of one row, each (1,)."""
    return (
        np.array([sampling.temperature], np.float32),
        np.array([sampling.top_k]),
        np.array([sampling.top_p], np.float32),
        np.array([sampling.min_p], np.float32),
    )


def _forced(run: LoopRun, result: LoopResult, steps: int) -> LoopRun:
    """Describe the first steps of a loop run again, whose symbols are known now."""
    return replace(
        run, forced=result.tokens[:steps], uniform=run.uniform[:steps], steps=np.array([steps])
    )


def _alone(state: State) -> State:
    """Return a row's state, each tensor (layers, hidden), as that of a batch of one."""
    return {name: tensor[:, None] for name, tensor in state.items()}
