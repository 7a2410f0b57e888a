"""Between protobuf messages and the engine's own types, both ways, with the contract's defaults."""

import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.unroll.v1 import text_generation_pb2 as pb
from serving.errors import InputError
from serving.models import ServedModel
from serving.runtime import runtime_name
from serving.sampling import SEED_LIMIT, SamplingParams
from serving.sequence import Chunk, SequenceRequest
from serving.stops import FinishReason
from serving.vocabulary import UnknownSymbols, Vocabulary

DEFAULT_NEW_SYMBOLS = 256

_UNKNOWN_SYMBOLS = {
    pb.UNKNOWN_SYMBOLS_UNSPECIFIED: UnknownSymbols.REFUSE,
    pb.UNKNOWN_SYMBOLS_REFUSE: UnknownSymbols.REFUSE,
    pb.UNKNOWN_SYMBOLS_SKIP: UnknownSymbols.SKIP,
    pb.UNKNOWN_SYMBOLS_REPLACE: UnknownSymbols.REPLACE,
}
_FINISH_REASON = {
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for at most, in symbols.

    Attributes:
        prompt: length of a prompt.
        new: length of a generated text.
        score: length of a scored text.
        buffer: how much of a stream may wait for its reader.
    """

    prompt: int = 65536
    new: int = 65536
    score: int = 1_000_000
    buffer: int = 4096


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as the engine takes it, and how many symbols were skipped or replaced."""

    request: SequenceRequest
    unknown: int


def read_generate(
    message: pb.GenerateRequest, vocabulary: Vocabulary, limits: Limits, deadline: float | None
) -> Asked:
    """Translate a request for text, with the defaults of the contract.

    Args:
        message: as it came.
        vocabulary: of the model that shall write.
        limits: of this server.
        deadline: time.monotonic() after which the request fails; None for never.

    Raises:
        InputError: a field is out of its range; carries the field's path in the message.
    """
    _check_length("prompt", message.prompt, limits.prompt)
    prompt = _encode("prompt", message.prompt, message, vocabulary)
    request = SequenceRequest(
        prompt=prompt,
        max_new_symbols=_max_new_symbols(message, limits),
        seed=message.seed if message.HasField("seed") else secrets.randbelow(SEED_LIMIT),
        sampling=_sampling(message.sampling),
        stop=tuple(message.stop),
        deadline=deadline,
        buffer_symbols=limits.buffer,
    )
    return Asked(request=request, unknown=_count_unknown(message.prompt, message, vocabulary))


def read_score(
    message: pb.ScoreRequest, vocabulary: Vocabulary, limits: Limits, deadline: float | None
) -> Asked:
    """Translate a request for scores; arguments and errors as in read_generate."""
    _check_length("text", message.text, limits.score)
    text = _encode("text", message.text, message, vocabulary)
    if not len(text):
        raise InputError("text", "has no symbol to score; at least 1 must be left after skipping")
    request = SequenceRequest(prompt=text, max_new_symbols=0, deadline=deadline)
    return Asked(request=request, unknown=_count_unknown(message.text, message, vocabulary))


def _check_length(field: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InputError(
            field, f"has {len(text)} symbols, this server takes {limit} at most; send fewer"
        )


def _max_new_symbols(message: pb.GenerateRequest, limits: Limits) -> int:
    if not message.HasField("max_new_symbols"):
        return min(DEFAULT_NEW_SYMBOLS, limits.new)
    asked = message.max_new_symbols
    if not 1 <= asked <= limits.new:
        raise InputError("max_new_symbols", f"must be 1 to {limits.new} here, got {asked}")
    return asked


def _sampling(message: pb.SamplingParams) -> SamplingParams:
    given = {descriptor.name: value for descriptor, value in message.ListFields()}
    try:
        return SamplingParams(**given)
    except InputError as error:
        raise InputError(f"sampling.{error.field}", error.problem) from error


def _policy(message: pb.GenerateRequest | pb.ScoreRequest) -> UnknownSymbols:
    policy = _UNKNOWN_SYMBOLS.get(message.unknown_symbols)
    if policy is None:
        names = ", ".join(f"{number} ({pb.UnknownSymbols.Name(number)})" for number in (1, 2, 3))
        raise InputError("unknown_symbols", f"must be {names}, got {message.unknown_symbols}")
    return policy


def _encode(
    field: str, text: str, message: pb.GenerateRequest | pb.ScoreRequest, vocabulary: Vocabulary
) -> NDArray[np.int64]:
    policy = _policy(message)
    if message.replacement_symbol and policy is not UnknownSymbols.REPLACE:
        raise InputError(
            "replacement_symbol",
            f"is {message.replacement_symbol!r} while unknown symbols are not replaced; leave it "
            "empty or set unknown_symbols to UNKNOWN_SYMBOLS_REPLACE",
        )
    return vocabulary.encode(
        text, unknown=policy, replacement=message.replacement_symbol, field=field
    )


def _count_unknown(
    text: str, message: pb.GenerateRequest | pb.ScoreRequest, vocabulary: Vocabulary
) -> int:
    return 0 if _policy(message) is UnknownSymbols.REFUSE else vocabulary.count_unknown(text)


def write_completion(asked: Asked, last: Chunk, fingerprint: str) -> pb.Completion:
    """Tell how a generation ended."""
    assert last.finish is not None
    return pb.Completion(
        finish_reason=_FINISH_REASON[last.finish],
        usage=_usage(asked, last.generated),
        seed=asked.request.seed,
        fingerprint=fingerprint,
    )


def write_score(asked: Asked, log_probs: NDArray[np.float32], fingerprint: str) -> pb.ScoreResponse:
    """Answer with the log-probabilities of a text, (symbols,)."""
    nats = -float(np.mean(log_probs, dtype=np.float64))
    return pb.ScoreResponse(
        log_probs=log_probs.tolist(),
        bits_per_character=nats / math.log(2),
        usage=_usage(asked, 0),
        fingerprint=fingerprint,
    )


def _usage(asked: Asked, generated: int) -> pb.Usage:
    return pb.Usage(
        prompt_symbol_count=len(asked.request.prompt),
        generated_symbol_count=generated,
        unknown_symbol_count=asked.unknown,
    )


def write_model(model: ServedModel) -> pb.Model:
    """Describe a served model."""
    manifest = model.bundle.manifest
    return pb.Model(
        name=model.name,
        fingerprint=manifest.fingerprint,
        vocabulary=manifest.symbols,
        start_symbol=manifest.start_symbol,
        cell=manifest.model.cell,
        layer_count=manifest.model.layers,
        hidden_size=manifest.model.hidden_size,
        parameter_count=manifest.model.parameters,
        precision=manifest.model.precision,
        validation_loss=manifest.training.validation_loss,
        corpus_sha256=manifest.training.corpus_sha256,
        runtime=runtime_name(),
        execution_provider=model.decoder.provider,
    )
