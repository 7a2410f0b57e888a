"""From the engine's own types to protobuf messages."""

from google.protobuf.timestamp_pb2 import Timestamp

from serving.access.call import Call
from serving.engine.counts import total
from serving.engine.sequences.request import Chunk
from serving.engine.served import ServedModel
from serving.sessions.session import Session
from serving.texts.alternatives import alternatives_of
from serving.texts.parse.generate import Parsed
from serving.texts.results import bits_per_character, model_info, session_info, usage_of
from serving.texts.text import Part, Text
from unroll.results import Alternatives, FoundUnits, Inspection, Usage
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire_terms import WRITTEN_FINISH_REASONS, write_unit


def write_answer(text: Text, part: Part) -> pb.GenerateResponse:
    """Answer with a whole sample."""
    return pb.GenerateResponse(
        text=part.chunk.text,
        log_probs=_log_probs(text.parsed, part.chunk),
        completion=_completion(text, part, part.capsule),
        alternatives=_alternatives(part.chunk, text.origin.model),
    )


async def send_piece(call: Call, text: Text, part: Part) -> None:
    """Send a piece of a sample; returns once the reader has room."""
    await call.write(write_piece(text, part))


def write_piece(text: Text, part: Part) -> pb.StreamGenerateResponse:
    """Answer with a piece of a sample."""
    return pb.StreamGenerateResponse(
        text=part.chunk.text,
        log_probs=_log_probs(text.parsed, part.chunk),
        completion=_completion(text, part) if part.chunk.finish else None,
        sample_index=part.index,
        capsule=part.capsule,
        alternatives=_alternatives(part.chunk, text.origin.model),
    )


def _alternatives(chunk: Chunk, model: ServedModel) -> list[pb.Alternatives] | None:
    if chunk.likeliest is None:
        return None
    return list(map(_write, alternatives_of(chunk.likeliest, model.bundle.vocabulary)))


def _write(alternatives: Alternatives) -> pb.Alternatives:
    return pb.Alternatives(symbols=alternatives.symbols, log_probs=alternatives.log_probs)


def _log_probs(parsed: Parsed, chunk: Chunk) -> list[float] | None:
    return chunk.log_probs.tolist() if parsed.wants_log_probs and chunk.text else None


def _completion(text: Text, part: Part, capsule: bytes = b"") -> pb.Completion:
    """Tell how a sample ended."""
    assert part.chunk.finish is not None
    return pb.Completion(
        finish_reason=WRITTEN_FINISH_REASONS[part.chunk.finish],
        usage=_usage(text.parsed, part.chunk.generated),
        seed=part.sample.seed,
        fingerprint=text.origin.model.fingerprint,
        position=part.chunk.position,
        capsule=capsule,
        is_match=part.chunk.is_match,
    )


def write_score(parsed: Parsed, scored: Chunk, model: ServedModel) -> pb.ScoreResponse:
    """Answer with the log-probabilities of a text."""
    return pb.ScoreResponse(
        log_probs=scored.log_probs.tolist(),
        bits_per_character=bits_per_character(scored.log_probs),
        usage=_usage(parsed, 0),
        fingerprint=model.fingerprint,
        alternatives=_alternatives(scored, model),
    )


def write_inspection(found: Inspection) -> pb.InspectResponse:
    """Answer with what a model did along a text."""
    return pb.InspectResponse(
        text=found.text,
        log_probs=found.log_probs,
        alternatives=map(_write, found.alternatives),
        next=None if found.next is None else _write(found.next),
        units=[pb.UnitValues(values=values) for values in found.units],
        usage=_write_usage(found.usage),
        fingerprint=found.fingerprint,
        position=found.position,
    )


def write_found_units(found: FoundUnits) -> pb.FindUnitsResponse:
    """Answer with the hidden units that follow something."""
    units = [
        pb.FoundUnit(unit=write_unit(each.unit), score=each.score, falls=each.falls)
        for each in found.units
    ]
    return pb.FindUnitsResponse(
        units=units, usage=_write_usage(found.usage), fingerprint=found.fingerprint
    )


def _usage(parsed: Parsed, generated: int) -> pb.Usage:
    return _write_usage(usage_of(parsed, generated))


def _write_usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_symbol_count=usage.prompt_symbols,
        generated_symbol_count=usage.generated_symbols,
        unknown_symbol_count=usage.unknown_symbols,
    )


def write_model(model: ServedModel) -> pb.Model:
    """Describe a served model."""
    info = model_info(model)
    return pb.Model(
        name=info.name,
        fingerprint=info.fingerprint,
        vocabulary=info.vocabulary,
        start_symbol=info.start_symbol,
        unknown_symbol=info.unknown_symbol,
        cell=info.cell,
        layer_count=info.layers,
        member_count=info.members,
        hidden_size=info.hidden_size,
        parameter_count=info.parameters,
        precision=info.precision,
        validation_loss=info.validation_loss,
        corpus_sha256=info.corpus_sha256,
        runtime=info.runtime,
        execution_provider=info.execution_provider,
    )


def write_model_status(model: ServedModel) -> pb.ModelStatus:
    """Tell what a model is doing."""
    load, counts = model.engine.load(), model.engine.counts
    return pb.ModelStatus(
        name=model.name,
        fingerprint=model.fingerprint,
        queued=load.queued,
        running=load.running,
        slots=load.slots,
        workers=load.workers,
        symbols_read=total(counts.symbols_read),
        symbols_written=total(counts.symbols_written),
    )


def write_session(session: Session, model: str, expires: float | None, symbols: str) -> pb.Session:
    """Describe a session; arguments as in session_info."""
    info = session_info(session, model, expires, symbols)
    sampling = pb.SamplingParams(
        temperature=info.temperature,
        top_k=info.top_k,
        top_p=info.top_p,
        min_p=info.min_p,
        logit_bias=info.logit_bias,
    )
    return pb.Session(
        id=info.session_id,
        model=info.model,
        fingerprint=info.fingerprint,
        position=info.position,
        marks=info.marks,
        seed=info.seed,
        sampling=sampling,
        pattern=info.pattern,
        create_time=write_time(session.created),
        expire_time=None if expires is None else write_time(expires),
    )


def write_time(seconds: float) -> Timestamp:
    """Translate a time by time.time()."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
