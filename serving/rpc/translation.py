"""From protobuf messages to plain options."""

from dataclasses import asdict
from typing import Any

from google.protobuf.message import Message

from serving.runtime.sampling import SamplingParams
from serving.sessions.session import NO_REQUEST, digest_of
from serving.texts.limits import Limits
from serving.texts.origins import Place
from unroll.errors import InputError
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import Unit
from unroll.terms import BIASES_AT_MOST, STOPS_AT_MOST, Capsules, UnknownSymbols
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire_terms import CAPSULES, UNIT_KINDS, UNKNOWN_SYMBOLS

DEFAULTS = asdict(SamplingParams())
SYMBOL_BYTES = 4  # of UTF-8, at most
UNIT_BYTES = 64  # of the name of a hidden unit, at most
ROOM_BYTES = 2**17  # for stop strings, ids and the rest of a capsule, and for errors that say more


def longest_messages(limits: Limits, state: int) -> dict[str, int]:
    """Return how many bytes a message may have, by method, for those that take much.

    Args:
        limits: what a request may ask for.
        state: size of a model's state, in bytes.
    """
    prompt, text = SYMBOL_BYTES * limits.prompt, SYMBOL_BYTES * limits.score
    rest = state + ROOM_BYTES
    return {
        "Generate": prompt + rest,
        "StreamGenerate": prompt + rest,
        "Score": text + rest,
        "GenerateMany": prompt + rest,
        "ScoreMany": text + rest,
        "Inspect": SYMBOL_BYTES * limits.inspect + UNIT_BYTES * limits.units + rest,
        "FindUnits": (SYMBOL_BYTES + 1) * limits.inspect + rest,
        "StartSession": rest,
    }


def read_place(
    message: pb.GenerateRequest | pb.ScoreRequest | pb.InspectRequest | pb.FindUnitsRequest,
) -> Place:
    """Translate where a request asks to begin."""
    origin, is_generate = message.WhichOneof("origin"), isinstance(message, pb.GenerateRequest)
    return Place(
        model=message.model,
        capsule=message.capsule if origin == "capsule" else None,
        session=message.session if origin == "session" else None,
        expected_position=_optional(message, "expected_position") if is_generate else None,
        digest=digest_of(message.SerializeToString(deterministic=True))
        if is_generate and origin == "session"
        else NO_REQUEST,
    )


def read_generate(message: pb.GenerateRequest) -> GenerateOptions:
    """Translate how a text is to be generated.

    Raises:
        InputError: an enum has a value that the proto does not know, or there are far too many stop
            strings.
    """
    if len(message.stop) > STOPS_AT_MOST:  # half a million take 6 ms to copy
        raise InputError(
            "stop", f"must be at most {STOPS_AT_MOST} strings, got {len(message.stop)}"
        )
    return GenerateOptions(
        model=message.model,
        max_new_symbols=_optional(message, "max_new_symbols"),
        stop=tuple(message.stop),
        seed=_optional(message, "seed"),
        **_sampling(message),
        pattern=_optional(message, "pattern"),
        json_schema=message.json_schema,
        log_probs=message.log_probs,
        top_log_probs=message.top_log_probs,
        capsules=_capsules(message),
        sample_count=_optional(message, "sample_count"),
        unknown_symbols=_policy(message),
        replacement_symbol=message.replacement_symbol,
    )


def read_score(message: pb.ScoreRequest) -> ScoreOptions:
    """Translate how a text is to be scored; raises as read_generate does."""
    return ScoreOptions(
        model=message.model,
        top_log_probs=message.top_log_probs,
        unknown_symbols=_policy(message),
        replacement_symbol=message.replacement_symbol,
    )


def read_inspect(message: pb.InspectRequest) -> InspectOptions:
    """Translate what an inspection is to show; raises as read_generate does."""
    return InspectOptions(
        model=message.model,
        units=tuple(_unit(f"units[{place}]", unit) for place, unit in enumerate(message.units)),
        top_log_probs=message.top_log_probs,
        unknown_symbols=_policy(message),
        replacement_symbol=message.replacement_symbol,
    )


def _unit(field: str, message: pb.Unit) -> Unit:
    kind = UNIT_KINDS.get(message.kind)
    if kind is None:
        names = ", ".join(f"{number} ({pb.UnitKind.Name(number)})" for number in (1, 2))
        raise InputError(f"{field}.kind", f"must be {names}, got {message.kind}")
    return Unit(member=message.member, layer=message.layer, index=message.index, kind=kind)


def read_find_units(message: pb.FindUnitsRequest) -> FindUnitsOptions:
    """Translate how hidden units are to be found."""
    return FindUnitsOptions(model=message.model, unit_count=_optional(message, "unit_count"))


def read_start(message: pb.StartSessionRequest) -> SessionOptions:
    """Translate what a session is to start with."""
    return SessionOptions(
        model=message.model, seed=_optional(message, "seed"), **_sampling(message)
    )


def _optional(message: Message, name: Any) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _sampling(message: pb.GenerateRequest | pb.StartSessionRequest) -> dict[str, Any]:
    """Return the sampling parameters; given at all, they replace all that are in force."""
    if not message.HasField("sampling"):
        return {}
    given = {descriptor.name: value for descriptor, value in message.sampling.ListFields()}
    biases = message.sampling.logit_bias
    if len(biases) > BIASES_AT_MOST:
        raise InputError(
            "sampling.logit_bias",
            f"must be of at most {BIASES_AT_MOST:,} symbols, got {len(biases):,}",
        )
    return DEFAULTS | given | {"logit_bias": dict(biases)}


def _capsules(message: pb.GenerateRequest) -> Capsules:
    wanted = CAPSULES.get(message.capsules)
    if wanted is None:
        names = ", ".join(f"{number} ({pb.CapsuleDelivery.Name(number)})" for number in (1, 2, 3))
        raise InputError("capsules", f"must be {names}, got {message.capsules}")
    return wanted


def _policy(
    message: pb.GenerateRequest | pb.ScoreRequest | pb.InspectRequest,
) -> UnknownSymbols:
    policy = UNKNOWN_SYMBOLS.get(message.unknown_symbols)
    if policy is None:
        names = ", ".join(f"{number} ({pb.UnknownSymbols.Name(number)})" for number in (1, 2, 3))
        raise InputError("unknown_symbols", f"must be {names}, got {message.unknown_symbols}")
    return policy
