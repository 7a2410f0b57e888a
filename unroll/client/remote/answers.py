"""From the messages that a client receives to its plain values."""

from collections.abc import Iterator
from datetime import UTC

from unroll.errors import ServerError
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
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import read_item_error
from unroll.wire_terms import FINISH_REASONS, UNIT_KINDS


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
