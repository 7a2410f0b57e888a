"""One request on its way through the engine."""

import time
from collections.abc import Callable
from math import inf

import numpy as np
from numpy.typing import NDArray

from serving.engine.counts import Times
from serving.engine.sequences.course import Course
from serving.engine.sequences.draft import Draft
from serving.engine.sequences.matching import Matching
from serving.engine.sequences.prefixes import Prefix
from serving.engine.sequences.prepared import Prepared
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.rules import rule_of
from serving.engine.sequences.snapshot import NO_LOG_PROBS, Snapshot, StateLayout
from serving.engine.sequences.stops import StopMasks, scan, stop_masks
from serving.runtime.decoder import State
from serving.runtime.likeliest import Likeliest
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import EngineError
from unroll.terms import Capsules, FinishReason

NO_STATES = np.zeros(0, np.int64)


class Sequence(Course):
    """The progress of one request.

    The worker that holds it alone changes it, but for `unread`, which the engine's lock guards.

    Args:
        request: what to do.
        vocabulary: of the model.
        layout: of the model's state.
        listener: called with each chunk by whoever the engine's `deliver` chose.
    """

    def __init__(
        self,
        request: SequenceRequest,
        vocabulary: Vocabulary,
        layout: StateLayout,
        listener: Callable[[Chunk], None],
    ) -> None:
        super().__init__(request, vocabulary.start_id)
        self.listener = listener
        self.rule = rule_of(request, vocabulary.sampled_size)
        self.times = Times(time.monotonic())
        self.is_streamed = request.chunk_seconds < inf  # whether its text goes out as it comes
        self.excess = 0  # symbols that its last run wrote after the text's end
        self.has_stopped = False  # by a stop string or its pattern, in its last run
        self.state: State | None = None  # while it holds no slot; None for zero
        self.prepared: Prepared | None = None  # for its first slot
        self.unread = 0  # symbols delivered and not yet taken by the reader
        self.stops: StopMasks | None = None
        if request.stop:
            self.stops = stop_masks(request.stop, vocabulary)
        self._vocabulary = vocabulary
        self._layout = layout
        self.draft = Draft(request)
        if request.origin is not None:
            self._resume(request.origin)
        self._matching: Matching | None = None
        if request.automaton is not None:
            held = np.zeros(0, np.int32) if request.origin is None else request.origin.held
            self._matching = Matching(request.automaton, request.automaton_state, held)

    def _resume(self, origin: Snapshot) -> None:
        self._start = origin.position
        self.token = origin.token
        self.state = self._layout.unpack(origin.state)
        self.draft.held_text = self._vocabulary.decode(origin.held.tolist())
        self.draft.held_log_probs = origin.held_log_probs

    def skip(self, prefix: Prefix) -> None:
        """Continue after a cached prefix of the prompt."""
        self.done = prefix.length
        self.token = prefix.snapshot.token
        self.state = self._layout.unpack(prefix.snapshot.state)

    @property
    def is_stalled(self) -> bool:
        """Whether it waits for its reader."""
        limit = self.request.buffer_symbols
        return limit is not None and self.unread >= limit

    @property
    def automaton_state(self) -> int:
        """Where it stands in its pattern, after all symbols that were written; 0 without one."""
        return 0 if self._matching is None else self._matching.state

    @property
    def may_go_back(self) -> bool:
        """Whether its state is wanted where a stop string or its pattern ends it."""
        request = self.request
        return (
            request.may_stop
            and request.snapshots is not Capsules.NEVER
            and self._settling is None
            and request.max_new_symbols > 0
        )

    @property
    def is_watched(self) -> bool:
        """Whether each loop run may bring something to do for it that its row does not show."""
        return (
            self._settling is not None
            or (self.keeps_prefixes and self.done < self._prompt_length)
            or (bool(self.request.stop) and self.stops is None)
            or self.request.alternatives > 0
            or (self._held_before > 0 and self.times.first is None)
        )

    def text_of(self, ids: NDArray[np.int64]) -> str:
        """Translate token ids that a loop run chose."""
        return self._vocabulary.text_of(ids)

    def take(
        self,
        tokens: NDArray[np.int64],
        text: str,
        log_probs: NDArray[np.float32],
        steps: int,
        now: float,
        patience: float = 0.0,
        likeliest: Likeliest | None = None,
        states: NDArray[np.int64] = NO_STATES,
    ) -> Chunk | None:
        """Take in what a loop run chose for this row.

        Args:
            tokens: ids of the symbols.
            text: the symbols.
            log_probs: of each.
            steps: how many of them count.
            now: time.monotonic().
            patience: for how many seconds what comes after a chunk is gathered, at least.
            likeliest: symbols at each step, or more of them; None where it did not ask.
            states: of its automaton after each step, or more of them; none without one.

        Returns:
            What can be delivered, if anything.
        """
        self.token = int(tokens[steps - 1])
        if self._settling is not None:
            self._settling.done += steps
            self.excess = 0
            return None if self.left else self._settling.last
        read = self._prompt_length - self.done
        self.done += steps
        if likeliest is not None:
            begin = max(read, 0) if self.request.max_new_symbols else 0
            self.draft.rank(likeliest.cut(begin, steps, self.request.alternatives))
        if not self.request.max_new_symbols:
            finish = FinishReason.LENGTH if not self.left else None
            return self._chunk("", log_probs[:steps], finish, now, patience)
        if read >= steps:
            return None
        begin = read if read > 0 else 0
        text, log_probs = text[begin:steps], log_probs[begin:steps]
        if self.request.may_stop or self.draft.held_text:
            return self._scan(text, log_probs, states[begin:steps], now, patience)
        finish = None if self.done < self._end else FinishReason.LENGTH
        return self._chunk(text, log_probs, finish, now, patience)

    def snapshot(self, state: State) -> Snapshot:
        """Describe where it stands, given its row of the recurrent state."""
        return Snapshot(
            position=self.position,
            token=self.token,
            state=self._layout.pack(state),
            held=self._vocabulary.encode(self.draft.held_text).astype(np.int32),
            held_log_probs=self.draft.held_log_probs,
            place=None
            if self._matching is None
            else self._matching.place(is_held_back=bool(self.draft.held_text)),
        )

    @property
    def can_be_cut(self) -> bool:
        """Whether it may end here and now with what it has written."""
        request = self.request
        return (
            request.is_cut_on_close
            and request.snapshots is not Capsules.NEVER
            and self._settling is None
            and self.has_written
        )

    def cut(self, state: State) -> Chunk:
        """End because the engine closes, with what was gathered; `state` is its row of it."""
        text, log_probs, likeliest = self.draft.take()
        return Chunk(
            text=text,
            log_probs=log_probs,
            finish=FinishReason.SHUTDOWN,
            generated=self.generated,
            position=self.position,
            snapshot=self.snapshot(state),
            likeliest=likeliest,
            is_match=self._is_match,
        )

    def fail(self, error: EngineError) -> Chunk:
        """End with an error, after the text so far.

        Where every chunk has a snapshot, the last one gives that text again, and this chunk, which
        has none, leaves it out.
        """
        text, log_probs, likeliest = "", NO_LOG_PROBS, None
        if self.request.snapshots is not Capsules.EVERY_CHUNK:
            if self._settling is not None:
                last = self._settling.last
                text, log_probs, likeliest = last.text, last.log_probs, last.likeliest
            else:
                text, log_probs, likeliest = self.draft.take()
        return Chunk(
            text=text,
            log_probs=log_probs,
            error=error,
            generated=self.generated,
            likeliest=likeliest,
        )

    @property
    def _is_match(self) -> bool | None:
        return None if self._matching is None else self._matching.is_match

    def _scan(
        self,
        text: str,
        log_probs: NDArray[np.float32],
        states: NDArray[np.int64],
        now: float,
        patience: float,
    ) -> Chunk | None:
        finish = FinishReason.LENGTH if not self.left else None
        matching, draft = self._matching, self.draft
        pattern_end = None if matching is None else matching.take(states)
        may_end = finish or draft.held_text or pattern_end is not None
        if not (may_end or any(stop[0] in text for stop in self.request.stop)):
            if matching is not None:
                matching.deliver(len(text))
            return self._chunk(text, log_probs, None, now, patience)
        before = len(draft.held_text)
        if before:
            text = draft.held_text + text
            log_probs = np.concatenate([draft.held_log_probs, log_probs])
        found = scan(text, self.request.stop, before)
        settled, ends_at = found.settled, found.ends_at
        if pattern_end is not None and (ends_at is None or before + pattern_end < ends_at):
            settled = ends_at = before + pattern_end
            finish = FinishReason.PATTERN
        elif ends_at is not None:
            finish = FinishReason.STOP
        elif finish:
            settled = len(text)
        if ends_at is not None:
            self.excess = len(text) - ends_at
            self.done -= self.excess
            self.has_stopped = True
            if matching is not None:
                matching.drop(self.excess)
        held = settled if finish is None else len(text)
        draft.held_text, draft.held_log_probs = text[held:], log_probs[held:]
        if not settled and not finish:
            return None
        if matching is not None:
            matching.deliver(settled)
        return self._chunk(text[:settled], log_probs[:settled], finish, now, patience)

    def _chunk(
        self,
        text: str,
        log_probs: NDArray[np.float32],
        finish: FinishReason | None,
        now: float,
        patience: float,
    ) -> Chunk | None:
        if finish is None:
            if self.draft.gather(text, log_probs, now):
                return None
            self.draft.wait(now, patience)
        text, log_probs, likeliest = self.draft.take(text, log_probs)
        return Chunk(
            text=text,
            log_probs=log_probs,
            finish=finish,
            generated=self.generated,
            position=self.position,
            likeliest=likeliest,
            is_match=None if finish is None else self._is_match,
        )


Delivery = list[tuple[Sequence, Chunk]]
"""Chunks and whose they are."""
