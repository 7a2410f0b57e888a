"""Many texts of a model in this process."""

from collections.abc import Callable
from typing import Generic, TypeVar

from serving.texts.given.sent import as_option
from serving.texts.many import Item, Many
from unroll.results import Answer

R = TypeVar("R")


class LocalBulk(Generic[R]):
    """Many texts under way; the AsyncBulk of a model in this process.

    Args:
        many: runs them.
        read: describes what came of one that ended well.
    """

    def __init__(self, many: Many, read: Callable[[Item], R]) -> None:
        self._many = many
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
        self._many.put(texts)

    async def receive(self) -> list[Answer[R]]:
        """See AsyncBulk."""
        return [
            Answer(index=item.key, error=as_option(item.error))
            if item.error is not None
            else Answer(index=item.key, value=self._read(item))
            for item in await self._many.take()
        ]

    async def close(self) -> None:
        """See AsyncBulk."""
        self._many.close()
