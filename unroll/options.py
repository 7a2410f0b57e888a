"""Options of requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unroll.results import Unit
from unroll.terms import Capsules, UnknownSymbols


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How a text is generated; None or empty means the server's default.

    Attributes:
        model: name of the model; by default that of the session or capsule, else the server's
            first.
        max_new_symbols: maximum number of symbols to generate; 256 by default. 0 only reads the
            prompt.
        stop: strings before which the text ends; at most 8, of 1 to 256 symbols.
        seed: in [0, 2^63); by default that of the session or capsule, else the server chooses one
            and returns it.
        temperature: 0 (greedy), or 0.001 to 1000; 1 by default. If this and the four below are
            all None, the session or capsule keeps its own.
        top_k: 0 (all, the default) or more.
        top_p: in (0, 1]; 1 by default, which keeps all.
        min_p: in [0, 1]; 0 by default, which keeps all.
        logit_bias: what is added to the logits before temperature, by symbol; -100 to 100, or
            -inf, which bans the symbol. Belongs to those four.
        pattern: regular expression in Python's syntax that the generated text has to match as a
            whole; at most 2,048 bytes. None goes on with that of the session or capsule, empty
            drops it.
        json_schema: JSON schema of which the generated text is a value, instead of a pattern; at
            most 16,384 bytes.
        log_probs: whether to return the log-probability of each symbol.
        top_log_probs: how many alternatives to return for each symbol, 0 to 20.
        capsules: which parts of the answer carry a capsule; by default the last of each sample.
        sample_count: number of continuations, 1 (the default) to 64; the first uses the seed, the
            next the seed + 1 and so on.
        unknown_symbols: what to do with prompt symbols that are not in the vocabulary.
        replacement_symbol: what replaces them with `REPLACE`; otherwise empty.
    """

    model: str = ""
    max_new_symbols: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    logit_bias: Mapping[str, float] | None = None
    pattern: str | None = None
    json_schema: str = ""
    log_probs: bool = False
    top_log_probs: int = 0
    capsules: Capsules | None = None
    sample_count: int | None = None
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How a text is scored; the attributes are those of GenerateOptions."""

    model: str = ""
    top_log_probs: int = 0
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """What to show of a text that is read; further attributes are those of GenerateOptions.

    Attributes:
        units: the hidden units whose values to return; a server limits their number.
        top_log_probs: how many alternatives to return for each symbol, 0 to the vocabulary's size.
    """

    model: str = ""
    units: tuple[Unit, ...] = ()
    top_log_probs: int = 0
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class FindUnitsOptions:
    """How hidden units are found.

    Attributes:
        model: as in GenerateOptions.
        unit_count: how many to return, 1 to 64; 10 by default.
    """

    model: str = ""
    unit_count: int | None = None


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """What a session starts with; the attributes are those of GenerateOptions."""

    model: str = ""
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    logit_bias: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a text continues from: a session, a capsule or, if both are empty, the start symbol.

    Attributes:
        session: id of a session.
        capsule: where an earlier answer ended.
        expected_position: where the caller believes it to be; None does not check.
    """

    session: str = ""
    capsule: bytes = field(default=b"", repr=False)
    expected_position: int | None = None
