"""A call in this process: who asks, for how much, and where it goes on."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from sys import maxsize
from typing import Self

from serving.texts.limits import Limits
from serving.texts.origins import Place
from unroll.errors import InputError
from unroll.options import Origin
from unroll.ranges import COUNT
from unroll.sent import seconds_as_sent

LIMITS = Limits(
    prompt=maxsize, new=COUNT, score=maxsize, inspect=maxsize, units=maxsize, message=maxsize
)


@dataclass(kw_only=True, slots=True)
class LocalCall:
    """Who asks in this process: the only caller, who may have as much as there is; see Asker."""

    deadline: float | None
    identity: str = ""
    account: str = ""
    model: str = ""
    symbols_read: int = 0
    symbols_written: int = 0

    @classmethod
    def within(cls, timeout: float | None) -> Self:
        """Begin a call that may take so many seconds; None for any number."""
        seconds = seconds_as_sent(timeout)
        return cls(deadline=None if seconds is None else time.monotonic() + seconds)

    def hold(self, more: int) -> AbstractContextManager[object]:
        """Let further samples run."""
        return nullcontext()


def place_of(model: str, origin: Origin) -> Place:
    """Say where a request goes on.

    Raises:
        InputError: it names two places.
    """
    if origin.session and origin.capsule:
        raise InputError(
            "session", "a text continues from a session or from a capsule, not both; leave one out"
        )
    return Place(
        model=model,
        capsule=origin.capsule or None,
        session=origin.session or None,
        expected_position=origin.expected_position,
    )
