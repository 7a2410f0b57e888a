"""Options of requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from unroll.ranges import Range
from unroll.results import Unit
from unroll.terms import (
    ALTERNATIVES_AT_MOST,
    FOUND_UNITS_AT_MOST,
    SAMPLES_AT_MOST,
    Capsules,
    UnknownSymbols,
)

NEW_SYMBOLS = Range(0)
SEED = Range(0)
TEMPERATURE = Range(1e-3, 1e3, also=0)
TOP_K = Range(0)
TOP_P = Range(above=0, most=1)
MIN_P = Range(0, 1)
SAMPLE_COUNT = Range(1, SAMPLES_AT_MOST)
TOP_LOG_PROBS = Range(0, ALTERNATIVES_AT_MOST)
UNIT_COUNT = Range(1, FOUND_UNITS_AT_MOST)


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How a text is generated; None or empty means the default.

    In a session, or from a capsule, seed and sampling parameters stay in force. temperature, top_k,
    top_p, min_p and logit_bias go together: a request that gives one of them replaces all five.

    Attributes:
        model: name of the model. Default: that of the session or capsule, else the server's first.
        max_new_symbols: maximum number of symbols to generate, 0 to 65,536 or the limit that the
            server sets, in this process 0 to 2^31 - 1; 256 by default. 0 only reads the prompt.
        stop: strings before which the text ends, at most 8 strings, each of 1 to 256 symbols.
        seed: seed of the random numbers, from 0 to 2^63 - 1. Default: that of the session or
            capsule, else the server chooses one and returns it.
        temperature: 0 takes the likeliest symbol each time; otherwise 0.001 to 1000, 1 by default.
        top_k: draw only from the k likeliest symbols; 0, the default, keeps all.
        top_p: draw only from the likeliest symbols whose probabilities sum to this; above 0 and at
            most 1. 1, the default, keeps all.
        min_p: drop symbols less probable than this fraction of the likeliest one's probability; 0
            to 1. 0, the default, keeps all.
        logit_bias: what is added to the logit of each of these symbols, before temperature: -100 to
            100, or -inf, which bans the symbol.
        pattern: regular expression in Python's syntax that the generated text has to match as a
            whole, at most 2,048 bytes. None keeps that of the session or capsule; empty drops it.
        json_schema: JSON schema of which the generated text is a value, instead of a pattern; at
            most 16,384 bytes.
        log_probs: whether to return the log-probability of each symbol, in nats.
        top_log_probs: how many of the likeliest symbols to return at each place, 0 to 20.
        capsules: which parts of the answer carry a capsule. Default: the last of each sample.
        sample_count: number of continuations, 1 by default, at most 64. The first uses the seed,
            the next the seed + 1 and so on.
        unknown_symbols: what to do with symbols that are not in the vocabulary.
        replacement_symbol: with `REPLACE`, the symbol of the vocabulary that replaces them.
    """

    model: str = ""
    max_new_symbols: Annotated[int | None, NEW_SYMBOLS] = None
    stop: tuple[str, ...] = ()
    seed: Annotated[int | None, SEED] = None
    temperature: Annotated[float | None, TEMPERATURE] = None
    top_k: Annotated[int | None, TOP_K] = None
    top_p: Annotated[float | None, TOP_P] = None
    min_p: Annotated[float | None, MIN_P] = None
    logit_bias: Mapping[str, float] | None = None
    pattern: str | None = None
    json_schema: str = ""
    log_probs: bool = False
    top_log_probs: Annotated[int, TOP_LOG_PROBS] = 0
    capsules: Capsules | None = None
    sample_count: Annotated[int | None, SAMPLE_COUNT] = None
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How a text is scored; the attributes are those of GenerateOptions."""

    model: str = ""
    top_log_probs: Annotated[int, TOP_LOG_PROBS] = 0
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """What to show of a text that is read; further attributes are those of GenerateOptions.

    Attributes:
        units: the hidden units whose values to return; a server allows 64 by default.
        top_log_probs: how many of the likeliest symbols to return at each place, 0 to the size of
            the vocabulary.
    """

    model: str = ""
    units: tuple[Unit, ...] = ()
    top_log_probs: int = 0
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class FindUnitsOptions:
    """How hidden units are found; further attributes are those of GenerateOptions.

    Attributes:
        unit_count: how many to return, 1 to 64; 10 by default.
    """

    model: str = ""
    unit_count: Annotated[int | None, UNIT_COUNT] = None


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """What a session starts with; further attributes are those of GenerateOptions.

    Attributes:
        model: name of the model. Default: the server's first.
        seed: seed of the random numbers, from 0 to 2^63 - 1. Default: the server chooses one.
    """

    model: str = ""
    seed: Annotated[int | None, SEED] = None
    temperature: Annotated[float | None, TEMPERATURE] = None
    top_k: Annotated[int | None, TOP_K] = None
    top_p: Annotated[float | None, TOP_P] = None
    min_p: Annotated[float | None, MIN_P] = None
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
