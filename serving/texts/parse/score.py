"""From a request for scores to the engine's own request."""

import math

from serving.engine.sequences.request import SequenceRequest
from serving.texts.asker import Asker
from serving.texts.limits import FIXED_BYTES, Limits
from serving.texts.origins import Origin
from serving.texts.parse.generate import (
    Parsed,
    alternative_bytes,
    alternatives,
    check_length,
    encode,
)
from unroll.errors import InputError
from unroll.options import ScoreOptions


def parse_score(
    text: str,
    options: ScoreOptions,
    origin: Origin,
    limits: Limits,
    asker: Asker,
) -> Parsed:
    """Translate a request for scores; arguments and errors as in GenerateParser."""
    vocabulary = origin.model.bundle.vocabulary
    check_length("text", text, limits.score)
    told = alternatives(options, vocabulary)
    worst = (4 + alternative_bytes(told, vocabulary)) * len(text) + FIXED_BYTES
    if worst > limits.message:
        raise InputError(
            "text",
            f"has {len(text)} symbols, whose scores may take {worst} bytes; an answer "
            f"has at most {limits.message}; send fewer",
        )
    ids, unknown = encode("text", text, options, vocabulary)
    if not len(ids):
        raise InputError("text", "has no symbol to score; give at least 1 that the model knows")
    if origin.snapshot is not None and len(origin.snapshot.held):
        raise InputError(
            "text",
            f"cannot be scored here: {len(origin.snapshot.held)} symbols were generated earlier "
            "and not yet delivered; generate first",
        )
    request = SequenceRequest(
        prompt=ids,
        max_new_symbols=0,
        caller=asker.account.encode(),
        origin=origin.snapshot,
        deadline=asker.deadline,
        chunk_seconds=math.inf,
        alternatives=told,
    )
    return Parsed(request=request, unknown=unknown)
