"""How the symbols of a text are drawn, as a request or what is in force says."""

import math
import secrets
from collections.abc import Mapping
from ctypes import c_float

from serving.engine.snapshot import SamplerState
from serving.runtime.sampling import SamplingParams, check_bias
from serving.texts.origins import Origin
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, shown
from unroll.options import GenerateOptions, SessionOptions
from unroll.terms import BIASES_AT_MOST, SEED_LIMIT

DEFAULT = SamplingParams()
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "logit_bias")


def parse_seed(options: GenerateOptions | SessionOptions, in_force: SamplerState | None) -> int:
    """Return a request's seed; what is in force where it has none, else a random one."""
    if options.seed is None:
        return secrets.randbelow(SEED_LIMIT) if in_force is None else in_force.seed
    if options.seed < 0:
        raise InputError("seed", f"must be 0 or more, got {options.seed}")
    return options.seed


def parse_sampling(options: GenerateOptions | SessionOptions, origin: Origin) -> SamplingParams:
    """Return a request's sampling parameters; what is in force where it has none."""
    values = {name: getattr(options, name) for name in SAMPLING}
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return DEFAULT if origin.sampler is None else origin.sampler.sampling
    try:
        if "logit_bias" in given:
            given["logit_bias"] = _biases(given["logit_bias"], origin.model.bundle.vocabulary)
        return SamplingParams(**given)
    except InputError as error:
        raise InputError(f"sampling.{error.field}", error.problem) from error


def _biases(biases: Mapping[str, float], vocabulary: Vocabulary) -> tuple[tuple[int, float], ...]:
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
    """Put symbols in the place of token ids.

    Raises:
        InputError: the vocabulary has no such token id.
    """
    for token in biases:
        if token >= len(vocabulary):
            raise InputError(
                "logit_bias", f"must have token ids below {len(vocabulary)} as keys, got {token}"
            )
    return {vocabulary.symbols[token]: bias for token, bias in biases.items()}
