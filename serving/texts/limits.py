"""How much a request may ask for."""

from dataclasses import dataclass

from unroll.terms import STOPS_AT_MOST

FIXED_BYTES = 1024  # of an answer without its symbols, scores and state; more than it takes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest values that a request may ask for.

    Attributes:
        prompt: length of a prompt, in symbols.
        new: length of a generated text, in symbols.
        score: length of a scored text, in symbols.
        inspect: length of an inspected text, in symbols.
        units: how many hidden units one inspection may show.
        stops: how many stop strings.
        buffer: how much of a stream may wait for its reader, in symbols.
        message: size of an answer in one message, in bytes.
    """

    prompt: int = 65536
    new: int = 65536
    score: int = 1_000_000
    inspect: int = 10_000
    units: int = 64
    stops: int = STOPS_AT_MOST
    buffer: int = 4096
    message: int = 8 * 2**20
