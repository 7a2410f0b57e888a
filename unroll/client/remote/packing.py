"""Many texts in messages that servers take."""

from collections.abc import Iterator
from dataclasses import dataclass

from unroll.errors import InputError
from unroll.sent import text_as_sent
from unroll.terms import ITEMS_AT_MOST

BYTES_AT_ONCE = 65536  # of a message; every server takes so many
ITEM_BYTES = 24  # of a text beside itself, at most


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Texts for one message, or one that cannot be sent.

    Attributes:
        texts: with their indices.
        size: of the message, in bytes, at most.
        error: why it cannot; None if they can.
    """

    texts: list[tuple[int, str]]
    size: int = 0
    error: InputError | None = None


def pack(field: str, texts: list[tuple[int, str]]) -> Iterator[Packed]:
    """Cut texts into parts for one message each; a long text is alone in its part.

    Args:
        field: what a text is called in an error.
        texts: with their indices.
    """
    part: list[tuple[int, str]] = []
    size = 0
    for index, text in texts:
        try:
            more = len(text_as_sent(field, text).encode()) + ITEM_BYTES
        except InputError as refusal:
            yield Packed(texts=[(index, text)], error=refusal)
            continue
        except UnicodeError as error:
            refused = InputError(field, f"cannot be sent: {error}")
            yield Packed(texts=[(index, text)], error=refused)
            continue
        if part and (len(part) == ITEMS_AT_MOST or size + more > BYTES_AT_ONCE):
            yield Packed(texts=part, size=size)
            part, size = [], 0
        part.append((index, text))
        size += more
    if part:
        yield Packed(texts=part, size=size)
