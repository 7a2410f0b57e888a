"""What a client can ask for."""

from dataclasses import dataclass

from serving.vocabulary import UnknownSymbols


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How a text is generated; what is None or empty is left to the server's default.

    Attributes:
        model: name of the model; by default the server's first.
        max_new_symbols: how many symbols to generate at most, 1 or more; 256 by default.
        stop: strings before which the text ends; at most 8, of 1 to 256 symbols.
        seed: in [0, 2^63); by default the server chooses one and tells it.
        temperature: 0 (greedy), or 0.001 to 1000; 1 by default.
        top_k: 0 (all, the default) or more.
        top_p: in (0, 1]; 1 by default, which keeps all.
        min_p: in [0, 1]; 0 by default, which keeps all.
        log_probs: whether to return the log-probability of each symbol.
        unknown_symbols: what to do with symbols of the prompt outside the vocabulary.
        replacement_symbol: what replaces them under `REPLACE`; else empty.
    """

    model: str = ""
    max_new_symbols: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    log_probs: bool = False
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How a text is scored; the attributes are those of GenerateOptions."""

    model: str = ""
    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    replacement_symbol: str = ""
