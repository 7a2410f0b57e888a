"""Many texts of a model in this process."""

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from serving.texts.each import Parse
from serving.texts.many import Item, Many
from serving.texts.parse import Parsed
from serving.texts.sent import text_as_sent
from unroll.results import Answer

R = TypeVar("R")


class LocalBulk(Generic[R]):
    """Many texts under way; the AsyncBulk of a model in this process.

    Args:
        many: runs them.
        field: what a text is called in an error.
        parse: translates a text.
        read: describes what came of one that ended well.
    """

    def __init__(self, many: Many, field: str, parse: Parse, read: Callable[[Item], R]) -> None:
        self._many = many
        self._field = field
        self._parse = parse
        self._read = read

    @property
    def room(self) -> int:
        """See AsyncBulk."""
        return self._many.room

    @property
    def unanswered(self) -> int:
        """See AsyncBulk."""
        return self._many.unanswered

    async def send(self, texts: list[tuple[int, str]]) -> None:
        """See AsyncBulk."""
        for index, text in texts:
            await self._many.put(index, partial(self._translate, index, text))

    async def receive(self) -> list[Answer[R]]:
        """See AsyncBulk."""
        return [
            Answer(index=item.key, error=item.error)
            if item.error is not None
            else Answer(index=item.key, value=self._read(item))
            for item in await self._many.take()
        ]

    async def close(self) -> None:
        """See AsyncBulk."""
        self._many.close()

    def _translate(self, index: int, text: str) -> Parsed:
        return self._parse(index, text_as_sent(self._field, text))
