"""A request's place in a sequence."""

from dataclasses import dataclass

from serving.texts.given.fields import Fields
from unroll.errors import InputError, shown

ID_LENGTH_AT_MOST = 128  # symbols of a sequence's id, and of a request's, which every answer has


@dataclass(frozen=True, kw_only=True)
class Step:
    """A request's place in a sequence.

    Attributes:
        id: of the sequence, as the caller calls it; 7 and "7" are two.
        starts: whether the sequence begins with it.
        ends: whether the sequence ends with it.
    """

    id: int | str
    starts: bool
    ends: bool


def read_step(fields: Fields) -> Step | None:
    """Read `sequence_id`, `sequence_start` and `sequence_end`; None outside a sequence.

    Raises:
        InputError: the id is missing, of the wrong kind or too long.
    """
    name, starts, ends = (
        fields.get("sequence_id", {"type": ["integer", "string"]}),
        fields.truth("sequence_start"),
        fields.truth("sequence_end"),
    )
    if name in (None, "") or (name == 0 and not isinstance(name, bool)):
        if starts or ends:
            raise InputError("sequence_id", "is missing; name the sequence that starts or ends")
        return None
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise InputError("sequence_id", f"must be a whole number or a text, got {shown(name)}")
    if len(str(name)) > ID_LENGTH_AT_MOST:
        raise InputError("sequence_id", f"must have at most {ID_LENGTH_AT_MOST} symbols")
    return Step(id=name, starts=starts, ends=ends)
