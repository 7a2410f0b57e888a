"""Who asks for a text: what must be known of a call, by whichever door it came."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Asker(Protocol):
    """A call that asks.

    Attributes:
        deadline: time.monotonic() after which it fails; None for never.
        identity: of the caller, as a token or certificate proves it; empty for none.
        account: the caller as fair shares and kept prefixes know it.
        model: name of the one that answers; noted when it is found.
        symbols_read: of prompts so far; counted here.
        symbols_written: of answers so far; counted here.
    """

    deadline: float | None
    identity: str
    account: str
    model: str
    symbols_read: int
    symbols_written: int

    @property
    def hold(self) -> Callable[[int], AbstractContextManager[object]]:
        """Lets so many further samples count as calls of the caller, until they are closed."""
        ...
