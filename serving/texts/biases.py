"""What is added to the logits of some symbols: by symbol, as callers give it, and by token id."""

import math
from collections.abc import Mapping
from ctypes import c_float

from serving.runtime.sampling import check_bias
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, shown
from unroll.terms import BIASES_AT_MOST


def by_id(biases: Mapping[str, float], vocabulary: Vocabulary) -> tuple[tuple[int, float], ...]:
    """Translate biases of symbols into those of token ids, in rising order.

    Raises:
        InputError: a key is no symbol that the model writes, or none is left; names `logit_bias`.
    """
    if len(biases) > BIASES_AT_MOST:
        raise InputError(
            "logit_bias", f"must be of at most {BIASES_AT_MOST:,} symbols, got {len(biases):,}"
        )
    written = vocabulary.symbols[: vocabulary.sampled_size]
    for symbol in biases:
        if len(symbol) != 1 or symbol not in written:
            raise InputError(
                "logit_bias",
                f"must be of symbols that the model writes, got {shown(symbol)}; leave it out",
            )
    found = sorted(
        (written.index(each), check_bias(c_float(bias).value, shown(each)))
        for each, bias in biases.items()
    )
    if len(found) == len(written) and all(bias == -math.inf for _, bias in found):
        raise InputError("logit_bias", "bans all symbols; leave one at least")
    return tuple(found)


def by_symbol(biases: Mapping[int, float], vocabulary: Vocabulary) -> dict[str, float]:
    """Translate biases of token ids into those of symbols.

    Raises:
        InputError: the vocabulary has no such token id; names `logit_bias`.
    """
    for token in biases:
        if token >= len(vocabulary):
            raise InputError(
                "logit_bias", f"must have token ids below {len(vocabulary)} as keys, got {token}"
            )
    return {vocabulary.symbols[token]: bias for token, bias in biases.items()}
