"""From a client's plain values to the messages that it sends."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from google.protobuf.message import Message

from unroll.errors import InputError
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.sent import as_sent, seeds_as_sent, text_as_sent
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire_terms import WRITTEN_CAPSULES, WRITTEN_UNKNOWN_SYMBOLS, write_unit


def generate_request(
    prompt: str,
    options: GenerateOptions,
    origin: Origin = Origin(),  # noqa: B008, frozen
) -> pb.GenerateRequest:
    """Build the request for a text.

    Raises:
        InputError: a value is of the wrong type or does not fit its field at all (a lone
            surrogate, 2^64), or both a session and a capsule were given; ranges are the server's
            to check.
    """
    options, origin = as_sent(options), as_sent(origin)
    message = pb.GenerateRequest(log_probs=options.log_probs)
    if options.capsules is not None:
        message.capsules = WRITTEN_CAPSULES[options.capsules]
    _set(message, "prompt", text_as_sent("prompt", prompt))
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
    options, origin = as_sent(options), as_sent(origin)
    message = pb.ScoreRequest()
    _set(message, "text", text_as_sent("text", text))
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
    options, origin = as_sent(options), as_sent(origin)
    message = pb.InspectRequest()
    _set(message, "text", text_as_sent("text", text))
    _set(message, "model", options.model)
    _set(message, "top_log_probs", options.top_log_probs)
    message.units.extend(map(write_unit, options.units))
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
    options, origin = as_sent(options), as_sent(origin)
    message = pb.FindUnitsRequest()
    _set(message, "text", text_as_sent("text", text))
    _set(message, "targets", targets)
    for name in ("model", "unit_count"):
        _set(message, name, getattr(options, name))
    _set_origin(message, origin)
    return message


def write_prompts(prompts: list[tuple[int, str]]) -> pb.GenerateManyRequest:
    """Build the request that holds prompts with their indices."""
    items = [pb.GenerateItem(key=index, prompt=prompt) for index, prompt in prompts]
    return pb.GenerateManyRequest(items=items)


def write_texts(texts: list[tuple[int, str]]) -> pb.ScoreManyRequest:
    """Build the request that holds texts to score with their indices."""
    items = [pb.ScoreItem(key=index, text=text) for index, text in texts]
    return pb.ScoreManyRequest(items=items)


def start_request(options: SessionOptions, capsule: bytes) -> pb.StartSessionRequest:
    """Build the request for a session; raises as generate_request does."""
    options, origin = as_sent(options), as_sent(Origin(capsule=capsule))
    message = pb.StartSessionRequest()
    for name in ("model", "seed"):
        _set(message, name, getattr(options, name))
    _set(message, "capsule", origin.capsule)
    _set_sampling(message, options)
    return message


def fork_request(session_id: str, seeds: Iterable[int]) -> pb.ForkSessionRequest:
    """Build the request for a session's forks; raises as generate_request does."""
    message = pb.ForkSessionRequest()
    _set(message, "session", session_id)
    message.seeds.extend(seeds_as_sent(seeds))
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
    _set(message, "session", text_as_sent("session", session_id))
    return message


def model_request(name: str) -> pb.GetModelRequest:
    """Build the request for a model; raises as generate_request does."""
    message = pb.GetModelRequest()
    _set(message, "model", text_as_sent("model", name))
    return message


def _set(message: Message, name: str, value: object) -> None:
    if value is not None:
        with _sending(name):
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
        _set(message.sampling, name, getattr(options, name))
    if options.logit_bias is not None:
        message.sampling.SetInParent()
        for symbol, bias in options.logit_bias.items():
            with _sending("logit_bias"):
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
