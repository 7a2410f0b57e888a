"""From a request for text to the engine's own request, with the contract's defaults."""

import math
import secrets
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.constraints.automaton import FREE, Constraint
from serving.engine.rows.pacing import LONGEST_RUN
from serving.engine.sequences.request import SequenceRequest
from serving.engine.sequences.snapshot import SamplerState
from serving.runtime.sampling import SamplingParams
from serving.texts.asker import Asker
from serving.texts.biases import by_id
from serving.texts.limits import FIXED_BYTES, Limits
from serving.texts.origins import Origin
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, shown
from unroll.options import GenerateOptions, InspectOptions, ScoreOptions, SessionOptions
from unroll.terms import (
    ALTERNATIVES_AT_MOST,
    DEFAULT_NEW_SYMBOLS,
    SAMPLES_AT_MOST,
    SEED_LIMIT,
    STOP_LENGTH_AT_MOST,
    Capsules,
    UnknownSymbols,
)

DRAWN = SamplingParams()  # how, where nothing is said
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "logit_bias")
LIST_BYTES = 8  # of one symbol's alternatives beside themselves


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A request as the engine takes it.

    Attributes:
        request: for the first or only sample.
        unknown: how many symbols were skipped or replaced.
        samples: how many continuations, 1 or more.
        wants_log_probs: whether symbols come with their log-probabilities.
        wants_capsule: whether the answer shall end with a capsule.
    """

    request: SequenceRequest
    unknown: int
    samples: int = 1
    wants_log_probs: bool = False
    wants_capsule: bool = False

    def with_seed(self, seed: int) -> "Parsed":
        """Return the same with another seed, in [0, 2^63)."""
        return replace(self, request=self.request.with_seed(seed))


def parse_generate(
    prompt: str,
    options: GenerateOptions,
    origin: Origin,
    limits: Limits,
    asker: Asker,
    constraint: Constraint = FREE,
    *,
    is_streamed: bool,
) -> Parsed:
    """Translate a request for text, with the defaults of the contract.

    Args:
        prompt: the text to continue.
        options: how.
        origin: what it goes on from.
        limits: what it may ask for.
        asker: whose deadline and account it has.
        constraint: what the text must match.
        is_streamed: whether the text shall come in chunks.

    Raises:
        InputError: a field is out of its range; carries the field's path in the message.
    """
    vocabulary, stops = origin.model.bundle.vocabulary, _stops(options, origin, limits)
    check_length("prompt", prompt, limits.prompt)
    new = _max_new_symbols(prompt, options, limits)
    samples = _samples(options, origin, new)
    capsules = Capsules.FINAL if options.capsules is None else options.capsules
    wants_capsule = capsules is not Capsules.NEVER
    seed, sampling = parse_seed(options, origin.sampler), parse_sampling(options, origin)
    told = alternatives(options, vocabulary)
    sizes = _sizes(options, origin, constraint, sampling, told)
    buffer = _buffer(origin, sizes, limits) if is_streamed else None
    if not is_streamed:
        _check_size(samples, new, sizes, limits.message)
    ids, unknown = encode("prompt", prompt, options, vocabulary)
    request = SequenceRequest(
        prompt=ids,
        seed=seed,
        sampling=sampling,
        max_new_symbols=new,
        origin=origin.snapshot,
        snapshots=capsules if wants_capsule or origin.session is None else Capsules.FINAL,
        stop=stops,
        deadline=asker.deadline,
        buffer_symbols=buffer,
        chunk_seconds=0.0 if is_streamed else math.inf,
        is_cut_on_close=is_streamed and not origin.is_repeated,
        caller=asker.account.encode(),
        alternatives=told,
        automaton=constraint.automaton,
        automaton_state=constraint.state,
    )
    return Parsed(
        request=request,
        unknown=unknown,
        samples=samples,
        wants_log_probs=options.log_probs,
        wants_capsule=wants_capsule,
    )


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
        return DRAWN if origin.sampler is None else origin.sampler.sampling
    try:
        if biases := given.pop("logit_bias", None):
            given["logit_bias"] = by_id(biases, origin.model.bundle.vocabulary)
        return SamplingParams(**given)
    except InputError as error:
        raise InputError(f"sampling.{error.field}", error.problem) from error


def _stops(options: GenerateOptions, origin: Origin, limits: Limits) -> tuple[str, ...]:
    """Return the stop strings in the form of the model's texts; a record ends with its line."""
    if len(options.stop) > limits.stops:
        raise InputError("stop", f"must be at most {limits.stops} strings, got {len(options.stop)}")
    form = origin.model.bundle.vocabulary.form
    stops = tuple(map(form.apply, options.stop))
    return (*stops, "\n") if form.unit == "record" else stops


def _samples(options: GenerateOptions, origin: Origin, new: int) -> int:
    count = 1 if options.sample_count is None else options.sample_count
    if not 1 <= count <= SAMPLES_AT_MOST:
        raise InputError("sample_count", f"must be 1 to {SAMPLES_AT_MOST}, got {count}")
    if count > 1 and origin.session is not None:
        raise InputError("sample_count", "must be 1 in a session; fork the session instead")
    if count > 1 and not new:
        raise InputError("sample_count", "must be 1 if max_new_symbols is 0")
    return count


def _check_size(samples: int, new: int, sizes: tuple[int, int], limit: int) -> None:
    """Refuse an answer in one message that might not go through, before it is computed."""
    symbol, rest = sizes
    worst = samples * (new * symbol + rest)
    if worst > limit:
        raise InputError(
            "sample_count" if samples > 1 else "max_new_symbols",
            f"{samples} x {new} symbols may take {worst} bytes, an answer in one message "
            f"{limit} at most; ask for fewer symbols or samples, or use StreamGenerate",
        )


def _buffer(origin: Origin, sizes: tuple[int, int], limits: Limits) -> int:
    """Return how many symbols may wait, so that all of them fit into one message of a stream.

    As many again may be gathered meanwhile, and the last loop run and a possible stop string come
    on top.
    """
    symbol, rest = sizes
    on_top = LONGEST_RUN + STOP_LENGTH_AT_MOST
    if limits.message < (least := (2 + on_top) * symbol + rest):
        raise InputError(
            "model",
            f"{origin.model.name!r} streams messages of {least} bytes, and this server has a limit "
            f"of {limits.message}; its operator can raise --max-message-bytes",
        )
    return min(limits.buffer, ((limits.message - rest) // symbol - on_top) // 2)


def _sizes(
    options: GenerateOptions,
    origin: Origin,
    constraint: Constraint,
    sampling: SamplingParams,
    told: int,
) -> tuple[int, int]:
    """Return how many bytes a symbol of the answer takes at most, and all that is no symbol."""
    vocabulary = origin.model.bundle.vocabulary
    symbol = vocabulary.symbol_bytes + alternative_bytes(told, vocabulary)
    capsule = origin.model.engine.layout.size + 8 * STOP_LENGTH_AT_MOST
    if constraint.automaton is not None:
        capsule += len(constraint.automaton.pattern.encode())
    capsule += 8 * len(sampling.logit_bias)
    return symbol + (4 if options.log_probs else 0), capsule + FIXED_BYTES


def alternatives(options: GenerateOptions | ScoreOptions, vocabulary: Vocabulary) -> int:
    """Return how many alternatives to tell: what is asked for, or all that there are."""
    wanted = options.top_log_probs
    if not 0 <= wanted <= ALTERNATIVES_AT_MOST:
        raise InputError("top_log_probs", f"must be 0 to {ALTERNATIVES_AT_MOST}, got {wanted}")
    return min(wanted, len(vocabulary))


def alternative_bytes(count: int, vocabulary: Vocabulary) -> int:
    """Return how many bytes so many alternatives to one symbol take at most."""
    return count * (vocabulary.symbol_bytes + 4) + LIST_BYTES if count else 0


def check_length(field: str, text: str, limit: int) -> None:
    """Check that a text is no longer than it may be."""
    if len(text) > limit:
        raise InputError(
            field, f"has {len(text)} symbols, this server takes {limit} at most; send fewer"
        )


def _max_new_symbols(prompt: str, options: GenerateOptions, limits: Limits) -> int:
    wanted = options.max_new_symbols
    if wanted is None:
        return min(DEFAULT_NEW_SYMBOLS, limits.new)
    if not 0 <= wanted <= limits.new:
        raise InputError("max_new_symbols", f"must be 0 to {limits.new} here, got {wanted}")
    if not wanted and not prompt:
        raise InputError("max_new_symbols", "must be 1 or more without a prompt, got 0")
    return wanted


def encode(
    field: str,
    text: str,
    options: GenerateOptions | ScoreOptions | InspectOptions,
    vocabulary: Vocabulary,
) -> tuple[NDArray[np.int64], int]:
    """Translate a text, as the options say of unknown symbols.

    Returns:
        Its token ids, (symbols,), and how many symbols were skipped or replaced.

    Raises:
        InputError: a symbol is unknown, or what replaces it, or nothing is to be replaced.
    """
    policy, replacement = options.unknown_symbols, options.replacement_symbol
    if replacement and policy is not UnknownSymbols.REPLACE:
        raise InputError(
            "replacement_symbol",
            f"is {shown(replacement)} while unknown symbols are not replaced; leave it empty or "
            "set unknown_symbols to REPLACE",
        )
    ids = vocabulary.encode(text, unknown=policy, replacement=replacement, field=field)
    return ids, 0 if policy is UnknownSymbols.REFUSE else vocabulary.count_unknown(text)
