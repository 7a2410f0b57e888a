"""From what the engine gave to the results that callers get."""

import math
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from serving.engine.sequences.request import Chunk
from serving.engine.served import ServedModel
from serving.runtime.kernels import Kernels
from serving.runtime.onnx import runtime_name
from serving.sessions.session import Session
from serving.texts.alternatives import alternatives_of
from serving.texts.parse.generate import Parsed
from serving.texts.text import Part, Text
from unroll.results import Completion, Generation, ModelInfo, Piece, Score, SessionInfo, Usage


def generation_of(text: Text, part: Part) -> Generation:
    """Describe a whole sample."""
    return Generation(
        text=part.chunk.text,
        log_probs=_log_probs(text.parsed, part.chunk),
        completion=_completion(text, part),
        capsule=part.capsule,
        alternatives=alternatives_of(part.chunk.likeliest, text.origin.model.bundle.vocabulary),
    )


def piece_of(text: Text, part: Part) -> Piece:
    """Describe a piece of a sample."""
    return Piece(
        text=part.chunk.text,
        log_probs=_log_probs(text.parsed, part.chunk),
        completion=_completion(text, part) if part.chunk.finish else None,
        capsule=part.capsule,
        sample_index=part.index,
        alternatives=alternatives_of(part.chunk.likeliest, text.origin.model.bundle.vocabulary),
    )


def score_of(parsed: Parsed, scored: Chunk, model: ServedModel) -> Score:
    """Describe the log-probabilities of a text."""
    return Score(
        log_probs=tuple(scored.log_probs.tolist()),
        bits_per_character=bits_per_character(scored.log_probs),
        usage=usage_of(parsed, 0),
        fingerprint=model.fingerprint,
        alternatives=alternatives_of(scored.likeliest, model.bundle.vocabulary),
    )


def bits_per_character(log_probs: NDArray[np.float32]) -> float:
    """Return the mean of -log2 of the probabilities whose natural logs these are."""
    return -float(np.mean(log_probs, dtype=np.float64)) / math.log(2)


def usage_of(parsed: Parsed, generated: int) -> Usage:
    """Count a request's symbols."""
    return Usage(
        prompt_symbols=len(parsed.request.prompt),
        generated_symbols=generated,
        unknown_symbols=parsed.unknown,
    )


def model_info(model: ServedModel) -> ModelInfo:
    """Describe a served model."""
    manifest, native = model.bundle.manifest, model.kernels is Kernels.NATIVE
    return ModelInfo(
        name=model.name,
        fingerprint=manifest.fingerprint,
        vocabulary=manifest.symbols,
        start_symbol=manifest.start_symbol,
        unknown_symbol=manifest.unknown_symbol,
        cell=manifest.model.cell,
        layers=manifest.model.layers,
        members=manifest.model.members,
        hidden_size=manifest.model.hidden_size,
        parameters=manifest.model.parameters,
        precision=manifest.model.precision,
        validation_loss=manifest.training.validation_loss,
        corpus_sha256=manifest.training.corpus_sha256,
        runtime=runtime_name() + (", native kernels" if native else ""),
        execution_provider=model.provider,
    )


def session_info(session: Session, model: str, expires: float | None, symbols: str) -> SessionInfo:
    """Describe a session.

    Args:
        session: which.
        model: name of its model.
        expires: unix time at which it will expire unless it is used; None for never.
        symbols: of its model; empty if that is not served any more.
    """
    sampler, place = session.current.sampler, session.current.snapshot.place
    return SessionInfo(
        session_id=session.session_id,
        model=model,
        fingerprint=session.fingerprint,
        position=session.position,
        marks=tuple(mark.snapshot.position for mark in session.marks),
        seed=sampler.seed,
        temperature=sampler.sampling.temperature,
        top_k=sampler.sampling.top_k,
        top_p=sampler.sampling.top_p,
        min_p=sampler.sampling.min_p,
        logit_bias={symbols[token]: bias for token, bias in sampler.sampling.logit_bias},
        pattern="" if place is None else place.pattern,
        create_time=datetime.fromtimestamp(session.created, UTC),
        expire_time=None if expires is None else datetime.fromtimestamp(expires, UTC),
    )


def _log_probs(parsed: Parsed, chunk: Chunk) -> tuple[float, ...]:
    return tuple(chunk.log_probs.tolist()) if parsed.wants_log_probs and chunk.text else ()


def _completion(text: Text, part: Part) -> Completion:
    """Tell how a sample ended."""
    assert part.chunk.finish is not None
    return Completion(
        finish_reason=part.chunk.finish,
        usage=usage_of(text.parsed, part.chunk.generated),
        seed=part.sample.seed,
        fingerprint=text.origin.model.fingerprint,
        position=part.chunk.position,
        is_match=part.chunk.is_match,
    )
