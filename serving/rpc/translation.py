"""From protobuf messages to the engine's own types, with the contract's defaults."""

import math
import secrets
from dataclasses import dataclass, replace

from serving.engine.request import SequenceRequest
from serving.rpc.origins import Origin, Place
from serving.runtime.sampling import SamplingParams
from serving.sessions.session import digest_of
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, shown
from unroll.terms import (
    DEFAULT_NEW_SYMBOLS,
    SAMPLES_AT_MOST,
    SEED_LIMIT,
    STOP_LENGTH_AT_MOST,
    STOPS_AT_MOST,
    Capsules,
    UnknownSymbols,
)
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import CAPSULES, UNKNOWN_SYMBOLS

FIXED_BYTES = 1024  # of an answer without its symbols, scores and state; more than it takes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest values that a request may ask for.

    Attributes:
        prompt: length of a prompt, in symbols.
        new: length of a generated text, in symbols.
        score: length of a scored text, in symbols.
        stops: how many stop strings.
        buffer: how much of a stream may wait for its reader, in symbols.
        message: size of an answer in one message, in bytes.
    """

    prompt: int = 65536
    new: int = 65536
    score: int = 1_000_000
    stops: int = STOPS_AT_MOST
    buffer: int = 4096
    message: int = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A request as the engine takes it.

    Attributes:
        request: for the first or only sample.
        unknown: how many symbols were skipped or replaced.
        wants_log_probs: whether symbols come with their log-probabilities.
        wants_capsule: whether the answer shall end with a capsule.
    """

    request: SequenceRequest
    unknown: int
    wants_log_probs: bool = False
    wants_capsule: bool = False


def read_place(message: pb.GenerateRequest | pb.ScoreRequest) -> Place:
    """Translate where a request asks to begin.

    Raises:
        InputError: several samples are asked for in a session.
    """
    origin = message.WhichOneof("origin")
    place = Place(
        model=message.model,
        capsule=message.capsule if origin == "capsule" else None,
        session=message.session if origin == "session" else None,
    )
    if not isinstance(message, pb.GenerateRequest):
        return place
    if message.HasField("expected_position"):
        place = replace(place, expected_position=message.expected_position)
    if origin == "session":
        if message.sample_count > 1:
            raise InputError("sample_count", "must be 1 in a session; fork the session instead")
        digest = digest_of(message.SerializeToString(deterministic=True))
        place = replace(place, digest=digest)
    return place


def read_generate(
    message: pb.GenerateRequest,
    origin: Origin,
    limits: Limits,
    deadline: float | None,
    account: str,
    *,
    is_streamed: bool,
) -> Parsed:
    """Translate a request for text, with the defaults of the contract.

    Args:
        message: as it came.
        origin: what it goes on from.
        limits: of this server.
        deadline: time.monotonic() after which the request fails; None for never.
        account: of the caller, for fair shares and kept prefixes.
        is_streamed: whether the text shall come in chunks.

    Raises:
        InputError: a field is out of its range; carries the field's path in the message.
    """
    vocabulary = origin.model.bundle.vocabulary
    if len(message.stop) > limits.stops:
        raise InputError("stop", f"must be at most {limits.stops} strings, got {len(message.stop)}")
    _check_length("prompt", message.prompt, limits.prompt)
    new = _max_new_symbols(message, limits)
    _check_samples(message, new)
    capsules = _capsules(message)
    if not is_streamed:
        _check_size(message, new, origin, limits.message)
    policy = _policy(message)
    unknown = _count_unknown(message.prompt, policy, vocabulary)
    in_force = None if origin.sampler is None else origin.sampler.sampling
    default_seed = secrets.randbelow(SEED_LIMIT) if origin.sampler is None else origin.sampler.seed
    request = SequenceRequest(
        seed=read_seed(message, default_seed),
        sampling=read_sampling(message, in_force),
        prompt=vocabulary.encode(
            message.prompt, unknown=policy, replacement=message.replacement_symbol, field="prompt"
        ),
        max_new_symbols=new,
        origin=origin.snapshot,
        snapshots=Capsules.FINAL
        if capsules is Capsules.NEVER and origin.session is not None
        else capsules,
        stop=tuple(message.stop),
        deadline=deadline,
        buffer_symbols=limits.buffer if is_streamed else None,
        chunk_seconds=0.0 if is_streamed else math.inf,
        is_cut_on_close=is_streamed and not origin.is_repeated,
        caller=account.encode(),
    )
    return Parsed(
        request=request,
        unknown=unknown,
        wants_log_probs=message.log_probs,
        wants_capsule=capsules is not Capsules.NEVER,
    )


def read_score(
    message: pb.ScoreRequest,
    origin: Origin,
    limits: Limits,
    deadline: float | None,
    account: str,
) -> Parsed:
    """Translate a request for scores; arguments and errors as in read_generate."""
    vocabulary = origin.model.bundle.vocabulary
    _check_length("text", message.text, limits.score)
    if (worst := 4 * len(message.text) + FIXED_BYTES) > limits.message:
        raise InputError(
            "text",
            f"has {len(message.text)} symbols, whose scores may take {worst} bytes; an answer "
            f"has at most {limits.message}; send fewer",
        )
    policy = _policy(message)
    text = vocabulary.encode(
        message.text, unknown=policy, replacement=message.replacement_symbol, field="text"
    )
    if not len(text):
        raise InputError("text", "has no symbol to score; at least 1 must be left after skipping")
    if origin.snapshot is not None and len(origin.snapshot.held):
        raise InputError(
            "text",
            f"cannot be scored here: {len(origin.snapshot.held)} symbols were generated earlier "
            "and not yet delivered; generate first",
        )
    request = SequenceRequest(
        prompt=text,
        max_new_symbols=0,
        caller=account.encode(),
        origin=origin.snapshot,
        deadline=deadline,
        chunk_seconds=math.inf,
    )
    return Parsed(request=request, unknown=_count_unknown(message.text, policy, vocabulary))


def read_seed(message: pb.GenerateRequest | pb.StartSessionRequest, default: int) -> int:
    """Return a request's seed; a default where it has none."""
    if message.HasField("seed") and message.seed < 0:
        raise InputError("seed", f"must be 0 or more, got {message.seed}")
    return message.seed if message.HasField("seed") else default


def read_sampling(
    message: pb.GenerateRequest | pb.StartSessionRequest, in_force: SamplingParams | None
) -> SamplingParams:
    """Return a request's sampling parameters; what is in force where it has none."""
    if in_force is not None and not message.HasField("sampling"):
        return in_force
    return _sampling(message.sampling)


def _capsules(message: pb.GenerateRequest) -> Capsules:
    wanted = CAPSULES.get(message.capsules)
    if wanted is None:
        names = ", ".join(f"{number} ({pb.CapsuleDelivery.Name(number)})" for number in (1, 2, 3))
        raise InputError("capsules", f"must be {names}, got {message.capsules}")
    return wanted


def _check_samples(message: pb.GenerateRequest, new: int) -> None:
    count = message.sample_count if message.HasField("sample_count") else 1
    if not 1 <= count <= SAMPLES_AT_MOST:
        raise InputError("sample_count", f"must be 1 to {SAMPLES_AT_MOST}, got {count}")
    if count > 1 and not new:
        raise InputError("sample_count", "must be 1 if max_new_symbols is 0")


def _check_size(message: pb.GenerateRequest, new: int, origin: Origin, limit: int) -> None:
    """Refuse an answer in one message that might not go through, before it is computed."""
    widest = len(max(origin.model.bundle.vocabulary.symbols).encode())  # bytes of a symbol
    log_prob = 4 if message.log_probs else 0
    capsule = origin.model.engine.layout.size + 8 * STOP_LENGTH_AT_MOST
    samples = max(message.sample_count, 1)
    worst = samples * (new * (widest + log_prob) + capsule + FIXED_BYTES)
    if worst > limit:
        raise InputError(
            "sample_count" if samples > 1 else "max_new_symbols",
            f"{samples} x {new} symbols may take {worst} bytes, an answer in one message "
            f"{limit} at most; ask for fewer symbols or samples, or use StreamGenerate",
        )


def _check_length(field: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InputError(
            field, f"has {len(text)} symbols, this server takes {limit} at most; send fewer"
        )


def _max_new_symbols(message: pb.GenerateRequest, limits: Limits) -> int:
    if not message.HasField("max_new_symbols"):
        return min(DEFAULT_NEW_SYMBOLS, limits.new)
    wanted = message.max_new_symbols
    if not 0 <= wanted <= limits.new:
        raise InputError("max_new_symbols", f"must be 0 to {limits.new} here, got {wanted}")
    if not wanted and not message.prompt:
        raise InputError("max_new_symbols", "must be 1 or more without a prompt, got 0")
    return wanted


def _sampling(message: pb.SamplingParams) -> SamplingParams:
    given = {descriptor.name: value for descriptor, value in message.ListFields()}
    try:
        return SamplingParams(**given)
    except InputError as error:
        raise InputError(f"sampling.{error.field}", error.problem) from error


def _policy(message: pb.GenerateRequest | pb.ScoreRequest) -> UnknownSymbols:
    policy = UNKNOWN_SYMBOLS.get(message.unknown_symbols)
    if policy is None:
        names = ", ".join(f"{number} ({pb.UnknownSymbols.Name(number)})" for number in (1, 2, 3))
        raise InputError("unknown_symbols", f"must be {names}, got {message.unknown_symbols}")
    if message.replacement_symbol and policy is not UnknownSymbols.REPLACE:
        raise InputError(
            "replacement_symbol",
            f"is {shown(message.replacement_symbol)} while unknown symbols are not replaced; "
            "leave it empty or set unknown_symbols to UNKNOWN_SYMBOLS_REPLACE",
        )
    return policy


def _count_unknown(text: str, policy: UnknownSymbols, vocabulary: Vocabulary) -> int:
    return 0 if policy is UnknownSymbols.REFUSE else vocabulary.count_unknown(text)
