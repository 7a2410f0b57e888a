"""One request on its way through the engine."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.decoder import FREE, State
from serving.errors import EngineError, InputError
from serving.sampling import SEED_LIMIT, SamplingParams, uniforms
from serving.stops import FinishReason, scan
from serving.vocabulary import Vocabulary

STOPS_AT_MOST = 8
STOP_LENGTH_AT_MOST = 256


@dataclass(frozen=True, kw_only=True)
class SequenceRequest:
    """What a sequence shall do: read `prompt`, then write up to `max_new_symbols`.

    Attributes:
        prompt: token ids to read after the start symbol, (symbols,).
        max_new_symbols: how many to write at most; 0 scores the prompt instead.
        seed: in [0, 2^63).
        sampling: how symbols are drawn.
        stop: strings before which the text ends; at most 8, of 1 to 256 symbols.
        deadline: time.monotonic() after which the sequence fails; None for never.
        buffer_symbols: the sequence waits while this many delivered symbols are unread, 1 or more;
            None for never.

    Raises:
        InputError: a field is out of its range.
    """

    prompt: NDArray[np.int64]
    max_new_symbols: int
    seed: int = 0
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    deadline: float | None = None
    buffer_symbols: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_symbols < 0 or len(self.prompt) + self.max_new_symbols == 0:
            raise InputError("max_new_symbols", f"must be 1 or more, got {self.max_new_symbols}")
        if self.buffer_symbols is not None and self.buffer_symbols < 1:
            raise InputError("buffer_symbols", f"must be 1 or more, got {self.buffer_symbols}")
        if not 0 <= self.seed < SEED_LIMIT:
            raise InputError("seed", f"must be between 0 and 2^63 - 1, got {self.seed}")
        if len(self.stop) > STOPS_AT_MOST:
            raise InputError("stop", f"at most {STOPS_AT_MOST} strings, got {len(self.stop)}")
        for index, stop in enumerate(self.stop):
            if not 1 <= len(stop) <= STOP_LENGTH_AT_MOST:
                raise InputError(
                    f"stop[{index}]",
                    f"must have 1 to {STOP_LENGTH_AT_MOST} symbols, has {len(stop)}",
                )


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a sequence's output; the last one has `finish` or `error`.

    Attributes:
        text: the next symbols; empty while scoring.
        log_probs: of each symbol of `text`, or of each prompt symbol while scoring.
        finish: why the sequence ended well.
        error: why it ended badly.
        generated: how many symbols have been generated so far, a stop string's included.
    """

    text: str
    log_probs: NDArray[np.float32]
    finish: FinishReason | None = None
    error: EngineError | None = None
    generated: int = 0

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self.finish is not None or self.error is not None


NO_LOG_PROBS = np.zeros(0, np.float32)


class Sequence:
    """The progress of one request.

    The engine's thread alone changes it, but for `cancelled` and `unread`.

    Args:
        request: what to do.
        vocabulary: of the model.
        listener: called with each chunk by whoever the engine's `deliver` chose.
    """

    def __init__(
        self, request: SequenceRequest, vocabulary: Vocabulary, listener: Callable[[Chunk], None]
    ) -> None:
        self.request = request
        self.listener = listener
        self.token = vocabulary.start_id  # the last symbol, not yet consumed
        self.position = 0  # of the next symbol in the text; the start symbol has none
        self.state: State | None = None  # while it holds no slot; None for zero
        self.cancelled = False
        self.unread = 0  # symbols delivered and not yet taken by the reader
        self._vocabulary = vocabulary
        self._held_text = ""
        self._held_log_probs = NO_LOG_PROBS

    @property
    def prompt_left(self) -> int:
        """How many prompt symbols are still to be read."""
        return max(len(self.request.prompt) - self.position, 0)

    @property
    def left(self) -> int:
        """How many steps there are at most still to make."""
        return len(self.request.prompt) + self.request.max_new_symbols - self.position

    @property
    def generated(self) -> int:
        """How many symbols have been generated."""
        return max(self.position - len(self.request.prompt), 0)

    @property
    def is_stalled(self) -> bool:
        """Whether it waits for its reader."""
        limit = self.request.buffer_symbols
        return limit is not None and self.unread >= limit

    def forced(self, steps: int) -> NDArray[np.int64]:
        """Return what the next steps must choose, (steps,)."""
        column = np.full(steps, FREE, np.int64)
        prompt = self.request.prompt[self.position : self.position + steps]
        column[: len(prompt)] = prompt
        return column

    def uniform(self, steps: int) -> NDArray[np.float32]:
        """Return the random numbers of the next steps, (steps,)."""
        return uniforms(self.request.seed, self.position, steps)

    def take(self, tokens: NDArray[np.int64], log_probs: NDArray[np.float32]) -> Chunk | None:
        """Take in what a call chose for this row, both (steps,).

        Returns:
            What can be delivered, if anything.
        """
        steps = min(len(tokens), self.left)
        read = min(self.prompt_left, steps)
        self.position += steps
        self.token = int(tokens[steps - 1])
        if not self.request.max_new_symbols:
            return self._chunk(
                "", log_probs[:steps], FinishReason.LENGTH if not self.left else None
            )
        if read == steps:
            return None
        text = self._vocabulary.decode(tokens[read:steps].tolist())
        return self._write(text, log_probs[read:steps])

    def fail(self, error: EngineError) -> Chunk:
        """End badly."""
        return Chunk(text="", log_probs=NO_LOG_PROBS, error=error, generated=self.generated)

    def _write(self, text: str, log_probs: NDArray[np.float32]) -> Chunk | None:
        finish = FinishReason.LENGTH if not self.left else None
        if not self.request.stop:
            return self._chunk(text, log_probs, finish)
        text = self._held_text + text
        log_probs = np.concatenate([self._held_log_probs, log_probs])
        found = scan(text, self.request.stop)
        settled = found.settled
        if found.ends_at is not None:
            self.position -= len(text) - found.ends_at
            finish = FinishReason.STOP
        elif finish:
            settled = len(text)
        self._held_text, self._held_log_probs = text[settled:], log_probs[settled:]
        if not settled and not finish:
            return None
        return self._chunk(text[:settled], log_probs[:settled], finish)

    def _chunk(
        self, text: str, log_probs: NDArray[np.float32], finish: FinishReason | None
    ) -> Chunk:
        self.unread += len(log_probs)
        return Chunk(text=text, log_probs=log_probs, finish=finish, generated=self.generated)
