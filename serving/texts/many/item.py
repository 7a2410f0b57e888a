"""One of many texts, from its request to its answer."""

from dataclasses import dataclass

from serving.engine.sequences.request import Chunk
from serving.texts.parse.generate import Parsed
from unroll.errors import UnrollError


@dataclass(kw_only=True, slots=True, eq=False)
class Item:
    """One of many texts.

    Attributes:
        key: the caller's.
        parsed: what it asks for; None if that cannot be done.
        chunk: all of it, once it has ended.
        error: why it failed, once it has.
    """

    key: int
    parsed: Parsed | None = None
    chunk: Chunk | None = None
    error: UnrollError | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is answered."""
        return self.chunk is not None or self.error is not None

    @property
    def outcome(self) -> tuple[Parsed, Chunk]:
        """What it asked for and got; it must have ended well."""
        assert self.parsed is not None
        assert self.chunk is not None
        return self.parsed, self.chunk

    @property
    def symbols(self) -> int:
        """How many it makes the model read."""
        return 0 if self.parsed is None else len(self.parsed.request.prompt)
