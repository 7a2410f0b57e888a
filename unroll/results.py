"""Results of requests."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from unroll.errors import UnrollError
from unroll.terms import FinishReason, UnitKind

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counts of symbols: read, generated (with those of a stop string), skipped or replaced."""

    prompt_symbols: int
    generated_symbols: int
    unknown_symbols: int


@dataclass(frozen=True, kw_only=True)
class Completion:
    """How a generation ended, and what is needed to repeat it.

    `position` is that of the next symbol, in symbols from the start of the text. `is_match` tells
    whether what was generated since the pattern began is a whole match; None without a pattern.
    """

    finish_reason: FinishReason
    usage: Usage
    seed: int
    fingerprint: str
    position: int
    is_match: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """The likeliest symbols at one place of a text, the likeliest first.

    Attributes:
        symbols: as many as were asked for, or all of a smaller vocabulary; none at a symbol that
            was generated before the request's capsule and is delivered after it.
        log_probs: in nats, one for each symbol, before temperature and filters. The text's own
            symbol may not be among them; its log-probability is in the result's `log_probs`.
    """

    symbols: str
    log_probs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A whole continuation.

    Attributes:
        text: without the prompt.
        log_probs: in nats, one for each symbol; empty unless requested.
        completion: how it ended.
        capsule: from which a later request can continue; empty if not requested.
        further_samples: the second and later ones, if several were requested.
        alternatives: to each symbol; empty unless requested.
    """

    text: str
    log_probs: tuple[float, ...] = field(repr=False)
    completion: Completion
    capsule: bytes = field(default=b"", repr=False)
    further_samples: tuple["Generation", ...] = ()
    alternatives: tuple[Alternatives, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The next symbols of a continuation.

    Attributes:
        text: one symbol or more; may be empty in the last piece.
        log_probs: in nats, one for each symbol; empty unless requested.
        completion: how it ended; only in the last piece of each sample, else None.
        capsule: from which a later request can continue after this piece; empty if not requested.
        sample_index: index of its sample, from 0.
        alternatives: to each symbol; empty unless requested.
    """

    text: str
    log_probs: tuple[float, ...] = field(repr=False)
    completion: Completion | None
    capsule: bytes = field(default=b"", repr=False)
    sample_index: int = 0
    alternatives: tuple[Alternatives, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The log-probability of each symbol of a text, in nats, and their mean in bits.

    `alternatives` to each symbol are empty unless requested.
    """

    log_probs: tuple[float, ...] = field(repr=False)
    bits_per_character: float
    usage: Usage
    fingerprint: str
    alternatives: tuple[Alternatives, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A hidden unit of a model: its network, its layer there, its place in that, each from 0."""

    member: int = 0
    layer: int = 0
    index: int
    kind: UnitKind = UnitKind.H


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a model did along a text.

    Attributes:
        text: as it was read, in the form of the model's texts and without skipped symbols.
        log_probs: of each symbol in nats, equal to those of `score`.
        alternatives: to each symbol; empty unless requested.
        next: the alternatives for the symbol that would come next; None unless requested.
        units: for each requested unit its value after each symbol.
        usage: counts of symbols.
        fingerprint: of the model.
        position: of the next symbol, in symbols from the start of the text.
    """

    text: str
    log_probs: tuple[float, ...] = field(repr=False)
    alternatives: tuple[Alternatives, ...] = field(repr=False)
    next: Alternatives | None = field(repr=False)
    units: tuple[tuple[float, ...], ...] = field(repr=False)
    usage: Usage
    fingerprint: str
    position: int


@dataclass(frozen=True, kw_only=True)
class FoundUnit:
    """A hidden unit whose value separates the marked symbols of a text from the others.

    Attributes:
        unit: which.
        score: area under the ROC curve: how often its value after a marked symbol is higher than
            after another, or lower if it `falls`; 0.5 by chance, 1 at best.
        falls: whether the value is lower after marked symbols.
    """

    unit: Unit
    score: float
    falls: bool


@dataclass(frozen=True, kw_only=True)
class FoundUnits:
    """The hidden units that best separate the marked symbols of a text, the best first."""

    units: tuple[FoundUnit, ...]
    usage: Usage
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[R]):
    """What became of one of many texts.

    Attributes:
        index: of the text among those that were given, from 0.
        value: the Generation or Score; None if the text failed.
        error: why it failed; None if it did not.
    """

    index: int
    value: R | None = None
    error: UnrollError | None = None

    @property
    def result(self) -> R:
        """The text's Generation or Score.

        Raises:
            UnrollError: the text's own error.
        """
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A served model; `validation_loss` is in nats per symbol, None if none was measured.

    A model has `members` networks of these sizes, whose logits are averaged. `unknown_symbol`, the
    last of its vocabulary, stands for all others: it is read, and never written; empty: there is
    none.
    """

    name: str
    fingerprint: str
    vocabulary: str
    start_symbol: str
    unknown_symbol: str
    cell: str
    layers: int
    members: int
    hidden_size: int
    parameters: int
    precision: str
    validation_loss: float | None
    corpus_sha256: str
    runtime: str
    execution_provider: str


@dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """The state of a session.

    Attributes:
        session_id: which only its caller knows.
        model: its model's name.
        fingerprint: its model's.
        position: of the next symbol, in symbols from the start of the text.
        marks: positions to which it can be rewound, rising; the last is the current one.
        seed: in force; likewise temperature, top_k, top_p, min_p and logit_bias.
        pattern: in force; empty for none. It may be what a JSON schema became.
        create_time: when it was started.
        expire_time: when it expires unless it is used; None for never.
    """

    session_id: str
    model: str
    fingerprint: str
    position: int
    marks: tuple[int, ...]
    seed: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    logit_bias: dict[str, float]
    pattern: str
    create_time: datetime
    expire_time: datetime | None
