"""Between a client's plain values and protobuf messages, both ways."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC

from google.protobuf.message import Message

from unroll.errors import InputError, ServerError
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import (
    Alternatives,
    Answer,
    Completion,
    FoundUnit,
    FoundUnits,
    Generation,
    Inspection,
    ModelInfo,
    Piece,
    Score,
    SessionInfo,
    Unit,
    Usage,
)
from unroll.terms import ITEMS_AT_MOST
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import (
    FINISH_REASONS,
    UNIT_KINDS,
    WRITTEN_CAPSULES,
    WRITTEN_UNKNOWN_SYMBOLS,
    read_item_error,
    write_unit,
)

SYMBOLS_AT_ONCE = 65536  # of many texts in one message


def generate_request(
    prompt: str,
    options: GenerateOptions,
    origin: Origin = Origin(),  # noqa: B008, frozen
) -> pb.GenerateRequest:
    """Build the request for a text.

    Raises:
        InputError: a value does not fit its field at all (a lone surrogate, 2^64), or both a
            session and a capsule were given; ranges are the server's to check.
    """
    message = pb.GenerateRequest(log_probs=options.log_probs)
    if options.capsules is not None:
        message.capsules = WRITTEN_CAPSULES[options.capsules]
    _set(message, "prompt", prompt)
    for name in (
        "model",
        "max_new_symbols",
        "seed",
        "sample_count",
        "top_log_probs",
        "pattern",
        "json_schema",
    ):
        _set(message, name, getattr(options, name))
    for index, stop in enumerate(options.stop):
        with _sending(f"stop[{index}]"):
            message.stop.append(stop)
    _set_sampling(message, options)
    _set_policy(message, options)
    _set_origin(message, origin)
    _set(message, "expected_position", origin.expected_position)
    return message


def score_request(
    text: str,
    options: ScoreOptions,
    origin: Origin = Origin(),  # noqa: B008, frozen
) -> pb.ScoreRequest:
    """Build the request for a score; raises as generate_request does."""
    message = pb.ScoreRequest()
    _set(message, "text", text)
    _set(message, "model", options.model)
    _set(message, "top_log_probs", options.top_log_probs)
    _set_policy(message, options)
    _set_origin(message, origin)
    return message


def inspect_request(
    text: str,
    options: InspectOptions,
    origin: Origin = Origin(),  # noqa: B008, frozen
) -> pb.InspectRequest:
    """Build the request for an inspection; raises as generate_request does."""
    message = pb.InspectRequest()
    _set(message, "text", text)
    _set(message, "model", options.model)
    _set(message, "top_log_probs", options.top_log_probs)
    for index, unit in enumerate(options.units):
        with _sending(f"units[{index}]"):
            message.units.append(write_unit(unit))
    _set_policy(message, options)
    _set_origin(message, origin)
    return message


def find_units_request(
    text: str,
    targets: str,
    options: FindUnitsOptions,
    origin: Origin = Origin(),  # noqa: B008, frozen
) -> pb.FindUnitsRequest:
    """Build the request for hidden units; raises as generate_request does."""
    message = pb.FindUnitsRequest()
    _set(message, "text", text)
    _set(message, "targets", targets)
    for name in ("model", "unit_count"):
        _set(message, name, getattr(options, name))
    _set_origin(message, origin)
    return message


def write_prompts(prompts: list[tuple[int, str]]) -> Iterator[pb.GenerateManyRequest]:
    """Build the requests that hold many prompts with their indices."""
    for part in _parts("prompts", prompts):
        items = [pb.GenerateItem(key=index, prompt=prompt) for index, prompt in part]
        yield pb.GenerateManyRequest(items=items)


def write_texts(texts: list[tuple[int, str]]) -> Iterator[pb.ScoreManyRequest]:
    """Build the requests that hold many texts to score with their indices."""
    for part in _parts("texts", texts):
        items = [pb.ScoreItem(key=index, text=text) for index, text in part]
        yield pb.ScoreManyRequest(items=items)


def _parts(name: str, texts: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Cut texts into parts that one message holds.

    Raises:
        InputError: one cannot be sent.
    """
    part: list[tuple[int, str]] = []
    symbols = 0
    for index, text in texts:
        try:
            text.encode()
        except (UnicodeError, AttributeError) as error:
            raise InputError(f"{name}[{index}]", f"cannot be sent: {error}") from error
        if part and (len(part) == ITEMS_AT_MOST or symbols + len(text) > SYMBOLS_AT_ONCE):
            yield part
            part, symbols = [], 0
        part.append((index, text))
        symbols += len(text)
    yield part


def start_request(options: SessionOptions, capsule: bytes) -> pb.StartSessionRequest:
    """Build the request for a session; raises as generate_request does."""
    message = pb.StartSessionRequest()
    for name in ("model", "seed"):
        _set(message, name, getattr(options, name))
    _set(message, "capsule", capsule)
    _set_sampling(message, options)
    return message


def fork_request(session_id: str, seeds: Iterable[int]) -> pb.ForkSessionRequest:
    """Build the request for a session's forks; raises as generate_request does."""
    message = pb.ForkSessionRequest()
    _set(message, "session", session_id)
    for index, seed in enumerate(seeds):
        with _sending(f"seeds[{index}]"):
            message.seeds.append(seed)
    return message


def rewind_request(session_id: str, position: int) -> pb.RewindSessionRequest:
    """Build the request to put a session back; raises as generate_request does."""
    message = pb.RewindSessionRequest()
    _set(message, "session", session_id)
    _set(message, "position", position)
    return message


def get_session_request(session_id: str) -> pb.GetSessionRequest:
    """Build the request to describe a session; raises as generate_request does."""
    message = pb.GetSessionRequest()
    _set(message, "session", session_id)
    return message


def model_request(name: str) -> pb.GetModelRequest:
    """Build the request for a model; raises as generate_request does."""
    message = pb.GetModelRequest()
    _set(message, "model", name)
    return message


def _set(message: Message, name: str, value: object, *, within: str = "") -> None:
    if value is not None:
        with _sending(within + name):
            setattr(message, name, value)


@contextmanager
def _sending(field: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(field, f"cannot be sent: {error}") from error


def _set_sampling(
    message: pb.GenerateRequest | pb.StartSessionRequest,
    options: GenerateOptions | SessionOptions,
) -> None:
    for name in ("temperature", "top_k", "top_p", "min_p"):
        _set(message.sampling, name, getattr(options, name), within="sampling.")
    if options.logit_bias is not None:
        message.sampling.SetInParent()
        for symbol, bias in options.logit_bias.items():
            with _sending("sampling.logit_bias"):
                message.sampling.logit_bias[symbol] = bias


def _set_origin(
    message: pb.GenerateRequest | pb.ScoreRequest | pb.InspectRequest | pb.FindUnitsRequest,
    origin: Origin,
) -> None:
    if origin.session and origin.capsule:
        raise InputError(
            "session", "a text continues from a session or from a capsule, not both; leave one out"
        )
    for name in ("session", "capsule"):
        _set(message, name, getattr(origin, name) or None)


def _set_policy(
    message: pb.GenerateRequest | pb.ScoreRequest | pb.InspectRequest,
    options: GenerateOptions | ScoreOptions | InspectOptions,
) -> None:
    message.unknown_symbols = WRITTEN_UNKNOWN_SYMBOLS[options.unknown_symbols]
    _set(message, "replacement_symbol", options.replacement_symbol)


def read_generation(message: pb.GenerateResponse) -> Generation:
    """Read a whole continuation."""
    return Generation(
        text=message.text,
        log_probs=tuple(message.log_probs),
        completion=_read_completion(message.completion),
        capsule=message.completion.capsule,
        further_samples=tuple(map(read_generation, message.further_samples)),
        alternatives=tuple(map(_read_alternatives, message.alternatives)),
    )


def read_generations(message: pb.GenerateManyResponse, target: str) -> Iterator[Answer[Generation]]:
    """Read what became of some prompts."""
    for answer in message.answers:
        if answer.HasField("error"):
            yield Answer(index=answer.key, error=read_item_error(answer.error, target))
        else:
            yield Answer(index=answer.key, value=read_generation(answer.response))


def read_scores(message: pb.ScoreManyResponse, target: str) -> Iterator[Answer[Score]]:
    """Read what became of some texts that were to be scored."""
    for answer in message.answers:
        if answer.HasField("error"):
            yield Answer(index=answer.key, error=read_item_error(answer.error, target))
        else:
            yield Answer(index=answer.key, value=read_score(answer.response))


def read_piece(message: pb.StreamGenerateResponse) -> Piece:
    """Read a piece of a continuation."""
    ended = message.HasField("completion")
    return Piece(
        text=message.text,
        log_probs=tuple(message.log_probs),
        completion=_read_completion(message.completion) if ended else None,
        capsule=message.capsule,
        sample_index=message.sample_index,
        alternatives=tuple(map(_read_alternatives, message.alternatives)),
    )


def check_ended(piece: Piece | None) -> None:
    """Check that the last piece of a stream that ended well was the last one.

    Raises:
        ServerError: it was not.
    """
    if piece is None or piece.completion is None:
        raise ServerError(
            "the stream ended without a completion; the text may be incomplete; try again"
        )


def read_score(message: pb.ScoreResponse) -> Score:
    """Read a score."""
    return Score(
        log_probs=tuple(message.log_probs),
        bits_per_character=message.bits_per_character,
        usage=_read_usage(message.usage),
        fingerprint=message.fingerprint,
        alternatives=tuple(map(_read_alternatives, message.alternatives)),
    )


def read_inspection(message: pb.InspectResponse) -> Inspection:
    """Read what a model did along a text."""
    return Inspection(
        text=message.text,
        log_probs=tuple(message.log_probs),
        alternatives=tuple(map(_read_alternatives, message.alternatives)),
        next=_read_alternatives(message.next) if message.HasField("next") else None,
        units=tuple(tuple(unit.values) for unit in message.units),
        usage=_read_usage(message.usage),
        fingerprint=message.fingerprint,
        position=message.position,
    )


def read_found_units(message: pb.FindUnitsResponse) -> FoundUnits:
    """Read the hidden units that follow something."""
    units = [
        FoundUnit(unit=_read_unit(each.unit), score=each.score, falls=each.falls)
        for each in message.units
    ]
    return FoundUnits(
        units=tuple(units), usage=_read_usage(message.usage), fingerprint=message.fingerprint
    )


def _read_unit(message: pb.Unit) -> Unit:
    kind = UNIT_KINDS.get(message.kind)
    if kind is None:
        raise ServerError(f"unit kind {message.kind} is unknown to this client; update it")
    return Unit(member=message.member, layer=message.layer, index=message.index, kind=kind)


def _read_alternatives(message: pb.Alternatives) -> Alternatives:
    return Alternatives(symbols=message.symbols, log_probs=tuple(message.log_probs))


def read_model(message: pb.Model) -> ModelInfo:
    """Read a model's description."""
    return ModelInfo(
        name=message.name,
        fingerprint=message.fingerprint,
        vocabulary=message.vocabulary,
        start_symbol=message.start_symbol,
        unknown_symbol=message.unknown_symbol,
        cell=message.cell,
        layers=message.layer_count,
        members=message.member_count,
        hidden_size=message.hidden_size,
        parameters=message.parameter_count,
        precision=message.precision,
        validation_loss=message.validation_loss if message.HasField("validation_loss") else None,
        corpus_sha256=message.corpus_sha256,
        runtime=message.runtime,
        execution_provider=message.execution_provider,
    )


def read_session(message: pb.Session) -> SessionInfo:
    """Read a session's description."""
    sampling = message.sampling
    expires = message.expire_time.ToDatetime(UTC) if message.HasField("expire_time") else None
    return SessionInfo(
        session_id=message.id,
        model=message.model,
        fingerprint=message.fingerprint,
        position=message.position,
        marks=tuple(message.marks),
        seed=message.seed,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        logit_bias=dict(sampling.logit_bias),
        pattern=message.pattern,
        create_time=message.create_time.ToDatetime(UTC),
        expire_time=expires,
    )


def _read_completion(message: pb.Completion) -> Completion:
    reason = FINISH_REASONS.get(message.finish_reason)
    if reason is None:
        raise ServerError(
            f"finish reason {message.finish_reason} is unknown to this client; update it"
        )
    return Completion(
        finish_reason=reason,
        usage=_read_usage(message.usage),
        seed=message.seed,
        fingerprint=message.fingerprint,
        position=message.position,
        is_match=message.is_match if message.HasField("is_match") else None,
    )


def _read_usage(message: pb.Usage) -> Usage:
    return Usage(
        prompt_symbols=message.prompt_symbol_count,
        generated_symbols=message.generated_symbol_count,
        unknown_symbols=message.unknown_symbol_count,
    )
