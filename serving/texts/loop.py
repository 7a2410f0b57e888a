"""How the parts of one request share the event loop with all others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")
SYMBOLS_AT_ONCE = 10_000  # that the event loop translates itself; it takes 1 ms


async def translate(symbols: int, function: Callable[..., T], *arguments: object) -> T:
    """Translate on the event loop; a long text on another thread, so that streams go on."""
    if symbols <= SYMBOLS_AT_ONCE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


@asynccontextmanager
async def one_error() -> AsyncIterator[None]:
    """Of the errors that several tasks ended with, raise the first."""
    try:
        yield
    except ExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
