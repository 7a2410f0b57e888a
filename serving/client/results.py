"""What a client gets."""

from dataclasses import dataclass, field

from serving.stops import FinishReason


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counts of symbols: read, generated (a stop string's included), skipped or replaced."""

    prompt_symbols: int
    generated_symbols: int
    unknown_symbols: int


@dataclass(frozen=True, kw_only=True)
class Completion:
    """How a generation ended, and what is needed to have the same text again."""

    finish_reason: FinishReason
    usage: Usage
    seed: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A whole continuation; `log_probs` (nats, one a symbol) is empty unless asked for."""

    text: str
    log_probs: tuple[float, ...] = field(repr=False)
    completion: Completion


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The next symbols of a continuation; the last piece alone has a completion."""

    text: str
    log_probs: tuple[float, ...] = field(repr=False)
    completion: Completion | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The log-probability of each symbol of a text, in nats, and their mean in bits."""

    log_probs: tuple[float, ...] = field(repr=False)
    bits_per_character: float
    usage: Usage
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A served model; `validation_loss` is in nats per symbol, None if none was measured."""

    name: str
    fingerprint: str
    vocabulary: str
    start_symbol: str
    cell: str
    layers: int
    hidden_size: int
    parameters: int
    precision: str
    validation_loss: float | None
    corpus_sha256: str
    runtime: str
    execution_provider: str
