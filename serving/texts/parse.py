"""From a request's options to the engine's own request, with the contract's defaults."""

import math
from dataclasses import dataclass

from serving.engine.pacing import LONGEST_RUN
from serving.engine.request import SequenceRequest
from serving.runtime.sampling import SamplingParams
from serving.texts.constraint import FREE, Constraint
from serving.texts.origins import Origin
from serving.texts.sampling import parse_sampling, parse_seed
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, shown
from unroll.options import GenerateOptions, InspectOptions, ScoreOptions
from unroll.terms import (
    ALTERNATIVES_AT_MOST,
    DEFAULT_NEW_SYMBOLS,
    SAMPLES_AT_MOST,
    STOP_LENGTH_AT_MOST,
    STOPS_AT_MOST,
    Capsules,
    UnknownSymbols,
)

FIXED_BYTES = 1024  # of an answer without its symbols, scores and state; more than it takes
LIST_BYTES = 8  # of one symbol's alternatives beside themselves


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
        return Parsed(
            request=self.request.with_seed(seed),
            unknown=self.unknown,
            samples=self.samples,
            wants_log_probs=self.wants_log_probs,
            wants_capsule=self.wants_capsule,
        )


def parse_generate(
    prompt: str,
    options: GenerateOptions,
    origin: Origin,
    limits: Limits,
    deadline: float | None,
    account: str = "",
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
        deadline: time.monotonic() after which the request fails; None for never.
        account: of the caller, for fair shares and kept prefixes.
        constraint: what the text must match.
        is_streamed: whether the text shall come in chunks.

    Raises:
        InputError: a field is out of its range; carries the field's path in the message.
    """
    vocabulary = origin.model.bundle.vocabulary
    if len(options.stop) > limits.stops:
        raise InputError("stop", f"must be at most {limits.stops} strings, got {len(options.stop)}")
    check_length("prompt", prompt, limits.prompt)
    new = _max_new_symbols(prompt, options, limits)
    samples = _samples(options, origin, new)
    capsules = Capsules.FINAL if options.capsules is None else options.capsules
    seed, sampling = parse_seed(options, origin.sampler), parse_sampling(options, origin)
    sizes = _sizes(options, origin, constraint, sampling)
    if not is_streamed:
        _check_size(samples, new, sizes, limits.message)
    check_replacement(options)
    unknown = count_unknown(prompt, options.unknown_symbols, vocabulary)
    request = SequenceRequest(
        seed=seed,
        max_new_symbols=new,
        origin=origin.snapshot,
        snapshots=Capsules.FINAL
        if capsules is Capsules.NEVER and origin.session is not None
        else capsules,
        stop=_stops(options, vocabulary),
        deadline=deadline,
        buffer_symbols=_buffer(origin, sizes, limits) if is_streamed else None,
        chunk_seconds=0.0 if is_streamed else math.inf,
        is_cut_on_close=is_streamed and not origin.is_repeated,
        caller=account.encode(),
        alternatives=_alternatives(options, vocabulary),
        sampling=sampling,
        prompt=vocabulary.encode(
            prompt,
            unknown=options.unknown_symbols,
            replacement=options.replacement_symbol,
            field="prompt",
        ),
        automaton=constraint.automaton,
        automaton_state=constraint.state,
    )
    return Parsed(
        request=request,
        unknown=unknown,
        samples=samples,
        wants_log_probs=options.log_probs,
        wants_capsule=capsules is not Capsules.NEVER,
    )


def parse_score(
    text: str,
    options: ScoreOptions,
    origin: Origin,
    limits: Limits,
    deadline: float | None,
    account: str = "",
) -> Parsed:
    """Translate a request for scores; arguments and errors as in parse_generate."""
    vocabulary = origin.model.bundle.vocabulary
    check_length("text", text, limits.score)
    worst = (4 + alternative_bytes(_alternatives(options, vocabulary), vocabulary)) * len(
        text
    ) + FIXED_BYTES
    if worst > limits.message:
        raise InputError(
            "text",
            f"has {len(text)} symbols, whose scores may take {worst} bytes; an answer "
            f"has at most {limits.message}; send fewer",
        )
    check_replacement(options)
    policy = options.unknown_symbols
    ids = vocabulary.encode(
        text, unknown=policy, replacement=options.replacement_symbol, field="text"
    )
    if not len(ids):
        raise InputError("text", "has no symbol to score; at least 1 must be left after skipping")
    if origin.snapshot is not None and len(origin.snapshot.held):
        raise InputError(
            "text",
            f"cannot be scored here: {len(origin.snapshot.held)} symbols were generated earlier "
            "and not yet delivered; generate first",
        )
    request = SequenceRequest(
        prompt=ids,
        max_new_symbols=0,
        caller=account.encode(),
        origin=origin.snapshot,
        deadline=deadline,
        chunk_seconds=math.inf,
        alternatives=_alternatives(options, vocabulary),
    )
    return Parsed(request=request, unknown=count_unknown(text, policy, vocabulary))


def _stops(options: GenerateOptions, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the stop strings in the form of the model's texts; a record ends with its line."""
    stops = tuple(map(vocabulary.form.apply, options.stop))
    return (*stops, "\n") if vocabulary.form.unit == "record" else stops


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
    options: GenerateOptions, origin: Origin, constraint: Constraint, sampling: SamplingParams
) -> tuple[int, int]:
    """Return how many bytes a symbol of the answer takes at most, and all that is no symbol."""
    vocabulary = origin.model.bundle.vocabulary
    symbol = vocabulary.symbol_bytes + alternative_bytes(
        _alternatives(options, vocabulary), vocabulary
    )
    capsule = origin.model.engine.layout.size + 8 * STOP_LENGTH_AT_MOST
    if constraint.automaton is not None:
        capsule += len(constraint.automaton.pattern.encode())
    capsule += 8 * len(sampling.logit_bias)
    return symbol + (4 if options.log_probs else 0), capsule + FIXED_BYTES


def _alternatives(options: GenerateOptions | ScoreOptions, vocabulary: Vocabulary) -> int:
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


def check_replacement(options: GenerateOptions | ScoreOptions | InspectOptions) -> None:
    """Check that what replaces unknown symbols is given only if they are replaced."""
    if options.replacement_symbol and options.unknown_symbols is not UnknownSymbols.REPLACE:
        raise InputError(
            "replacement_symbol",
            f"is {shown(options.replacement_symbol)} while unknown symbols are not replaced; "
            "leave it empty or set unknown_symbols to REPLACE",
        )


def count_unknown(text: str, policy: UnknownSymbols, vocabulary: Vocabulary) -> int:
    """Count the symbols of a text that are skipped or replaced."""
    return 0 if policy is UnknownSymbols.REFUSE else vocabulary.count_unknown(text)
