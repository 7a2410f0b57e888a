"""What terms are called on the wire: one side writes them, the other reads them."""

from unroll.results import Unit
from unroll.terms import Capsules, FinishReason, UnitKind, UnknownSymbols
from unroll.v1 import text_generation_pb2 as pb

# The proto's enums. Where the caller leaves one out, the contract's default holds.
WRITTEN_UNKNOWN_SYMBOLS = {
    UnknownSymbols.REFUSE: pb.UNKNOWN_SYMBOLS_REFUSE,
    UnknownSymbols.SKIP: pb.UNKNOWN_SYMBOLS_SKIP,
    UnknownSymbols.REPLACE: pb.UNKNOWN_SYMBOLS_REPLACE,
}
UNKNOWN_SYMBOLS = {
    pb.UNKNOWN_SYMBOLS_UNSPECIFIED: UnknownSymbols.REFUSE,
    **{number: term for term, number in WRITTEN_UNKNOWN_SYMBOLS.items()},
}
WRITTEN_CAPSULES = {
    Capsules.FINAL: pb.CAPSULE_DELIVERY_FINAL,
    Capsules.EVERY_CHUNK: pb.CAPSULE_DELIVERY_EVERY_CHUNK,
    Capsules.NEVER: pb.CAPSULE_DELIVERY_NEVER,
}
CAPSULES = {
    pb.CAPSULE_DELIVERY_UNSPECIFIED: Capsules.FINAL,
    **{number: term for term, number in WRITTEN_CAPSULES.items()},
}
WRITTEN_FINISH_REASONS = {
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.SHUTDOWN: pb.FINISH_REASON_SHUTDOWN,
    FinishReason.PATTERN: pb.FINISH_REASON_PATTERN,
}
FINISH_REASONS = {number: term for term, number in WRITTEN_FINISH_REASONS.items()}

WRITTEN_UNIT_KINDS = {UnitKind.H: pb.UNIT_KIND_H, UnitKind.C: pb.UNIT_KIND_C}
UNIT_KINDS = {
    pb.UNIT_KIND_UNSPECIFIED: UnitKind.H,
    **{number: term for term, number in WRITTEN_UNIT_KINDS.items()},
}


def write_unit(unit: Unit) -> pb.Unit:
    """Name a hidden unit; raises ValueError for a number that has no place in its field."""
    kind = WRITTEN_UNIT_KINDS[unit.kind]
    return pb.Unit(member=unit.member, layer=unit.layer, index=unit.index, kind=kind)
