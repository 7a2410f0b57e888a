"""Many texts of a model in this process."""

from collections.abc import Callable
from typing import Generic, TypeVar

from serving.engine.engine import Engine
from serving.texts.given.named import as_option
from serving.texts.many.item import Item
from serving.texts.many.many import Many
from serving.texts.parse.each import Parse
from unroll.results import Answer

R = TypeVar("R")
# Answers that are handed over together. Where a thread makes 700 objects more than it frees, Python
# looks for cycles among the latest, and every hundredth time among all: with the objects of 64
# texts it never comes to that.
GATHERED = 64


class LocalBulk(Generic[R]):
    """Many texts under way; the AsyncBulk of a model in this process.

    Args:
        engine: runs them.
        parse: translates a text.
        read: describes what came of one that ended well.
        in_order: answer in the order of the texts.
    """

    def __init__(
        self, engine: Engine, parse: Parse, read: Callable[[Item], R], *, in_order: bool
    ) -> None:
        self._many = Many(engine, parse, in_order=in_order, gathered=GATHERED)
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

    async def exchange(self, texts: list[tuple[int, str]]) -> list[Answer[R]]:
        """Send some, then receive."""
        await self.send(texts)
        return await self.receive()

    async def close(self) -> None:
        """See AsyncBulk."""
        self._many.close()
