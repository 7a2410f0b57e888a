"""The engine's request and the chunks of its answer."""

from dataclasses import dataclass, field
from math import isnan

import numpy as np
from numpy.typing import NDArray

from serving.constraints.automaton import Automaton
from serving.engine.sequences.snapshot import Snapshot, StateLayout
from serving.runtime.likeliest import Likeliest
from serving.runtime.sampling import SamplingParams
from unroll.errors import EngineError, InputError
from unroll.terms import SEED_LIMIT, STOP_LENGTH_AT_MOST, STOPS_AT_MOST, Capsules, FinishReason


@dataclass(frozen=True, kw_only=True)
class SequenceRequest:
    """What a sequence shall do: read `prompt`, then write up to `max_new_symbols`.

    Attributes:
        prompt: token ids to read first, (symbols,).
        max_new_symbols: how many to write at most; 0 only reads and scores the prompt.
        origin: where the text goes on from; None for the start symbol.
        snapshots: which chunks carry a snapshot.
        seed: in [0, 2^63).
        sampling: how symbols are drawn.
        stop: strings before which the text ends; at most 8, of 1 to 256 symbols.
        deadline: time.monotonic() after which the sequence fails; None for never.
        buffer_symbols: the sequence waits while this many delivered symbols are unread, and gathers
            no more than that, 1 or more; None for never.
        is_cut_on_close: whether, when the engine closes, what was written counts as an answer that
            ended by FinishReason.SHUTDOWN; needs snapshots.
        chunk_seconds: after a chunk, what comes is gathered for at least so long, 0 or more, or up
            to `buffer_symbols`; the first chunk and the last do not wait. inf gives one
            chunk, when the sequence ends.
        caller: tag of who asks; only the same caller's prompts share what was read.
        alternatives: how many likeliest symbols to tell beside each symbol, 0 to V.
        automaton: what the text that is written must match; None for anything.
        automaton_state: where the text stands in it before the origin's held symbols.

    Raises:
        InputError: a field is out of its range.
    """

    prompt: NDArray[np.int64]
    max_new_symbols: int
    origin: Snapshot | None = None
    snapshots: Capsules = Capsules.NEVER
    seed: int = 0
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    deadline: float | None = None
    buffer_symbols: int | None = None
    chunk_seconds: float = 0.0
    is_cut_on_close: bool = False
    caller: bytes = b""
    alternatives: int = 0
    automaton: Automaton | None = None
    automaton_state: int = 0

    def __post_init__(self) -> None:
        if self.max_new_symbols < 0 or len(self.prompt) + self.max_new_symbols == 0:
            raise InputError("max_new_symbols", f"must be 1 or more, got {self.max_new_symbols}")
        if self.held and len(self.prompt):
            raise InputError(
                "prompt",
                f"must be empty: {self.held} symbols were generated earlier and not yet "
                "delivered; first send a request without a prompt",
            )
        if self.held >= max(self.max_new_symbols, 1):
            raise InputError(
                "max_new_symbols",
                f"must be more than the {self.held} symbols that were generated earlier and not "
                f"yet delivered, got {self.max_new_symbols}",
            )
        if self.buffer_symbols is not None and self.buffer_symbols < 1:
            raise InputError("buffer_symbols", f"must be 1 or more, got {self.buffer_symbols}")
        if not self.chunk_seconds >= 0:
            raise InputError("chunk_seconds", f"must be 0 or more, got {self.chunk_seconds}")
        if self.deadline is not None and isnan(self.deadline):
            raise InputError("deadline", "must be a time, got NaN")
        if not 0 <= self.seed < SEED_LIMIT:
            raise InputError("seed", f"must be between 0 and 2^63 - 1, got {self.seed}")
        if len(self.stop) > STOPS_AT_MOST + 1:  # a record's own end comes on top
            raise InputError("stop", f"at most {STOPS_AT_MOST} strings, got {len(self.stop)}")
        for index, stop in enumerate(self.stop):
            if not 1 <= len(stop) <= STOP_LENGTH_AT_MOST:
                raise InputError(
                    f"stop[{index}]",
                    f"must have 1 to {STOP_LENGTH_AT_MOST} symbols, has {len(stop)}",
                )

    def with_seed(self, seed: int) -> "SequenceRequest":
        """Return the same with another seed, in [0, 2^63); nothing is checked again."""
        other = object.__new__(SequenceRequest)
        other.__dict__.update(self.__dict__, seed=seed)
        return other

    @property
    def may_stop(self) -> bool:
        """Whether the text may end before its last symbol."""
        return bool(self.stop) or self.automaton is not None

    @property
    def held(self) -> int:
        """How many symbols the origin holds that were not delivered yet."""
        return 0 if self.origin is None else len(self.origin.held)


def check_request(request: SequenceRequest, layout: StateLayout) -> None:
    """Check that a model can do what is asked; what makes a loop run fail would end every row.

    Args:
        request: what to do.
        layout: of the model's state; it knows the vocabulary's size, too.

    Raises:
        InputError: a token id is none of the model's, or the origin no place in a text of it.
    """
    V, prompt = layout.vocabulary_size, request.prompt
    if len(prompt) and prompt.view(np.uint64).max() >= V:  # negative ones are huge there
        raise InputError(
            "prompt",
            f"token ids must be in [0, {V}), got {prompt.min()} to {prompt.max()}; encode the "
            "text with this model's vocabulary",
        )
    if request.origin is not None:
        try:
            layout.check(request.origin)
            if not np.isfinite(np.frombuffer(request.origin.state, "<f4")).all():
                raise ValueError("a number of its state is not finite")
        except ValueError as error:
            problem = f"is no place in a text of this model: {error}"
            raise InputError("origin", problem) from error


@dataclass(kw_only=True, slots=True)  # frozen, it would take three times as long to make
class Chunk:
    """A piece of a sequence's output; the last one has `finish` or `error`.

    Attributes:
        text: the next symbols; empty while scoring.
        log_probs: of each symbol of `text`, or of each prompt symbol while scoring.
        finish: why the sequence ended well.
        error: why it ended badly.
        generated: how many symbols have been generated so far, a stop string's included.
        position: of the symbol after the last one generated so far.
        snapshot: where the text stands after this chunk, if it was asked for.
        likeliest: symbols at each place of `log_probs`, if they were asked for.
        is_match: whether what was written since the pattern began is a whole match; only where
            it ended well; None without a pattern.
    """

    text: str
    log_probs: NDArray[np.float32]
    finish: FinishReason | None = None
    error: EngineError | None = None
    generated: int = 0
    position: int = 0
    snapshot: Snapshot | None = None
    likeliest: Likeliest | None = None
    is_match: bool | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self.finish is not None or self.error is not None

    @classmethod
    def joined(cls, chunks: "list[Chunk]") -> "Chunk":
        """Join one or more chunks that follow each other."""
        if len(chunks) == 1:
            return chunks[0]
        last = chunks[-1]
        # Where chunks have snapshots, an error adds no text: the text ends at the snapshot before.
        snapshots = [chunk.snapshot for chunk in chunks if chunk.snapshot is not None]
        likeliest = [chunk.likeliest for chunk in chunks if chunk.likeliest is not None]
        return cls(
            text="".join([chunk.text for chunk in chunks]),
            log_probs=np.concatenate([chunk.log_probs for chunk in chunks]),
            finish=last.finish,
            error=last.error,
            generated=last.generated,
            position=last.position,
            snapshot=snapshots[-1] if snapshots else None,
            likeliest=Likeliest.joined(likeliest) if likeliest else None,
            is_match=last.is_match,
        )
