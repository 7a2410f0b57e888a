"""From the engine's own types to protobuf messages."""

import math
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from serving.engine.request import Chunk, SequenceRequest
from serving.engine.served import ServedModel
from serving.rpc.origins import Origin
from serving.rpc.translation import Parsed
from serving.runtime.onnx import runtime_name
from serving.runtime.sampling import SamplingParams
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import WRITTEN_FINISH_REASONS


def write_answer(
    parsed: Parsed, origin: Origin, sample: SequenceRequest, whole: Chunk, capsule: bytes
) -> pb.GenerateResponse:
    """Answer with a whole text.

    Args:
        parsed: what was asked for.
        origin: what it went on from.
        sample: which of its samples this is.
        whole: all of its text.
        capsule: of where it ends; empty for none.
    """
    return pb.GenerateResponse(
        text=whole.text,
        log_probs=_log_probs(parsed, whole),
        completion=_completion(parsed, origin, sample, whole, capsule),
    )


def write_piece(
    parsed: Parsed,
    origin: Origin,
    sample: SequenceRequest,
    chunk: Chunk,
    capsule: bytes,
    index: int,
) -> pb.StreamGenerateResponse:
    """Answer with a piece of a text; arguments as in write_answer, and the sample's index."""
    return pb.StreamGenerateResponse(
        text=chunk.text,
        log_probs=_log_probs(parsed, chunk),
        completion=_completion(parsed, origin, sample, chunk) if chunk.finish else None,
        sample_index=index,
        capsule=capsule,
    )


def _log_probs(parsed: Parsed, chunk: Chunk) -> list[float] | None:
    return chunk.log_probs.tolist() if parsed.wants_log_probs and chunk.text else None


def _completion(
    parsed: Parsed, origin: Origin, sample: SequenceRequest, last: Chunk, capsule: bytes = b""
) -> pb.Completion:
    """Tell how a sample ended."""
    assert last.finish is not None
    return pb.Completion(
        finish_reason=WRITTEN_FINISH_REASONS[last.finish],
        usage=_usage(parsed, last.generated),
        seed=sample.seed,
        fingerprint=origin.model.fingerprint,
        position=last.position,
        capsule=capsule,
    )


def write_score(
    parsed: Parsed, log_probs: NDArray[np.float32], fingerprint: str
) -> pb.ScoreResponse:
    """Answer with the log-probabilities of a text, (symbols,)."""
    nats = -float(np.mean(log_probs, dtype=np.float64))
    return pb.ScoreResponse(
        log_probs=log_probs.tolist(),
        bits_per_character=nats / math.log(2),
        usage=_usage(parsed, 0),
        fingerprint=fingerprint,
    )


def _usage(parsed: Parsed, generated: int) -> pb.Usage:
    return pb.Usage(
        prompt_symbol_count=len(parsed.request.prompt),
        generated_symbol_count=generated,
        unknown_symbol_count=parsed.unknown,
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
        member_count=manifest.model.members,
        hidden_size=manifest.model.hidden_size,
        parameter_count=manifest.model.parameters,
        precision=manifest.model.precision,
        validation_loss=manifest.training.validation_loss,
        corpus_sha256=manifest.training.corpus_sha256,
        runtime=runtime_name(),
        execution_provider=model.decoder.provider,
    )


def write_sampling(sampling: SamplingParams) -> pb.SamplingParams:
    """Describe sampling parameters."""
    return pb.SamplingParams(**asdict(sampling))
