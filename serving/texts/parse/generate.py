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
from unroll.options import (
    SAMPLE_COUNT,
    SEED,
    TOP_LOG_PROBS,
    GenerateOptions,
    InspectOptions,
    ScoreOptions,
    SessionOptions,
)
from unroll.ranges import check_number
from unroll.terms import (
    DEFAULT_NEW_SYMBOLS,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateParser:
    """Translates requests for text that have all but the prompt in common.

    Attributes:
        options: how prompts are continued.
        origin: what they go on from.
        limits: what they may ask for.
        asker: whose deadline and account they have.
        constraint: what the texts must match.
        is_streamed: whether they shall come in chunks.
    """

    options: GenerateOptions
    origin: Origin
    limits: Limits
    asker: Asker
    constraint: Constraint = FREE
    is_streamed: bool

    def parse(self, prompt: str) -> Parsed:
        """Translate a request, with the defaults of the contract.

        Raises:
            InputError: a field is out of its range; carries the field's path in the message.
        """
        options, origin, vocabulary = self.options, self.origin, self.origin.model.bundle.vocabulary
        stops = self._stops()
        check_length("prompt", prompt, self.limits.prompt)
        new = self._max_new_symbols(prompt)
        samples = self._samples(new)
        capsules = Capsules.FINAL if options.capsules is None else options.capsules
        wants_capsule = capsules is not Capsules.NEVER
        seed, sampling = parse_seed(options, origin.sampler), parse_sampling(options, origin)
        told = alternatives(options, vocabulary)
        sizes = self._sizes(sampling, told)
        buffer = self._buffer(*sizes) if self.is_streamed else None
        if not self.is_streamed:
            self._check_size(samples, new, *sizes)
        ids, unknown = encode("prompt", prompt, options, vocabulary)
        request = SequenceRequest(
            prompt=ids,
            seed=seed,
            sampling=sampling,
            max_new_symbols=new,
            origin=origin.snapshot,
            snapshots=capsules if wants_capsule or origin.session is None else Capsules.FINAL,
            stop=stops,
            deadline=self.asker.deadline,
            buffer_symbols=buffer,
            chunk_seconds=0.0 if self.is_streamed else math.inf,
            is_cut_on_close=self.is_streamed and not origin.is_repeated,
            caller=self.asker.account.encode(),
            alternatives=told,
            automaton=self.constraint.automaton,
            automaton_state=self.constraint.state,
        )
        return Parsed(
            request=request,
            unknown=unknown,
            samples=samples,
            wants_log_probs=options.log_probs,
            wants_capsule=wants_capsule,
        )

    def _stops(self) -> tuple[str, ...]:
        """Return the stop strings in the form of the model's texts; a record ends with its line."""
        stop, most = self.options.stop, self.limits.stops
        if len(stop) > most:
            raise InputError("stop", f"must be at most {most} strings, got {len(stop)}")
        form = self.origin.model.bundle.vocabulary.form
        stops = tuple(map(form.apply, stop))
        return (*stops, "\n") if form.unit == "record" else stops

    def _max_new_symbols(self, prompt: str) -> int:
        wanted, most = self.options.max_new_symbols, self.limits.new
        if wanted is None:
            return min(DEFAULT_NEW_SYMBOLS, most)
        if not 0 <= wanted <= most:
            raise InputError("max_new_symbols", f"must be 0 to {most} here, got {wanted}")
        if not wanted and not prompt:
            raise InputError("max_new_symbols", "must be 1 or more without a prompt, got 0")
        return wanted

    def _samples(self, new: int) -> int:
        count = 1 if self.options.sample_count is None else self.options.sample_count
        check_number("sample_count", count, SAMPLE_COUNT)
        if count > 1 and self.origin.session is not None:
            raise InputError("sample_count", "must be 1 in a session; fork the session instead")
        if count > 1 and not new:
            raise InputError("sample_count", "must be 1 if max_new_symbols is 0")
        return count

    def _sizes(self, sampling: SamplingParams, told: int) -> tuple[int, int]:
        """Return how many bytes a symbol of the answer takes at most, and all that is no symbol."""
        model = self.origin.model
        symbol = model.bundle.vocabulary.symbol_bytes
        symbol += alternative_bytes(told, model.bundle.vocabulary)
        capsule = model.engine.layout.size + 8 * STOP_LENGTH_AT_MOST
        if self.constraint.automaton is not None:
            capsule += len(self.constraint.automaton.pattern.encode())
        capsule += 8 * len(sampling.logit_bias)
        return symbol + (4 if self.options.log_probs else 0), capsule + FIXED_BYTES

    def _check_size(self, samples: int, new: int, symbol: int, rest: int) -> None:
        """Refuse an answer in one message that might not go through, before it is computed."""
        worst, limit = samples * (new * symbol + rest), self.limits.message
        if worst > limit:
            raise InputError(
                "sample_count" if samples > 1 else "max_new_symbols",
                f"{samples} x {new} symbols may take {worst} bytes, an answer in one message "
                f"{limit} at most; ask for fewer symbols or samples, or use StreamGenerate",
            )

    def _buffer(self, symbol: int, rest: int) -> int:
        """Return how many symbols may wait, so that all of them fit into one message of a stream.

        As many again may be gathered meanwhile, and the last loop run and a possible stop string
        come on top.
        """
        on_top, limit = LONGEST_RUN + STOP_LENGTH_AT_MOST, self.limits.message
        if limit < (least := (2 + on_top) * symbol + rest):
            raise InputError(
                "model",
                f"{self.origin.model.name!r} streams messages of {least} bytes, and this server "
                f"has a limit of {limit}; its operator can raise --max-message-bytes",
            )
        return min(self.limits.buffer, ((limit - rest) // symbol - on_top) // 2)


def parse_seed(options: GenerateOptions | SessionOptions, in_force: SamplerState | None) -> int:
    """Return a request's seed; what is in force where it has none, else a random one."""
    if options.seed is None:
        return secrets.randbelow(SEED_LIMIT) if in_force is None else in_force.seed
    check_number("seed", options.seed, SEED)
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


def alternatives(options: GenerateOptions | ScoreOptions, vocabulary: Vocabulary) -> int:
    """Return how many alternatives to tell: what is asked for, or all that there are."""
    wanted = options.top_log_probs
    check_number("top_log_probs", wanted, TOP_LOG_PROBS)
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
