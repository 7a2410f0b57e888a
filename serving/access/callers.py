"""How much one caller may ask for at once."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from unroll.errors import CallerBusyError, InputError, RateError

MESSAGES_AT_ONCE = 16  # of one caller that are on their way; further ones wait unread
_TIDY_ABOVE = 4096  # callers remembered before those are looked for that have gone


@dataclass(frozen=True, kw_only=True)
class CallerLimits:
    """What one caller may do.

    Attributes:
        calls: calls and streams at once, 1 or more; each sample of a text counts as one.
        rate: calls a second in the long run; 0 for any number.
        burst: calls at once after a rest, 1 or more.
    """

    calls: int = 512
    rate: float = 1000.0
    burst: int = 1000


class _Caller:
    """One caller's account.

    Args:
        burst: calls in the bucket at first.
        now: in seconds.
    """

    __slots__ = ("calls", "filled", "level", "reading")

    def __init__(self, burst: float, now: float) -> None:
        self.calls = 0
        self.reading = asyncio.Semaphore(MESSAGES_AT_ONCE)
        self.level = burst
        self.filled = now


class Counted(AbstractContextManager["Counted"]):
    """Calls that count as a caller's until they are closed, which a block does at its end.

    Args:
        caller: whose.
        calls: how many.

    Attributes:
        reading: held while a message of theirs is read.
    """

    __slots__ = ("_caller", "_calls", "reading")

    def __init__(self, caller: _Caller, calls: int) -> None:
        self.reading = caller.reading
        self._caller = caller
        self._calls = calls
        caller.calls += calls

    def close(self) -> None:
        """Count them no more; doing it again does no harm."""
        self._caller.calls -= self._calls
        self._calls = 0

    def __exit__(self, *_: object) -> None:
        self.close()


class Callers:
    """Counts each caller's calls; all on one event loop.

    Args:
        limits: of each caller.
        now: the clock, in seconds.
        what: is counted, in the words of a refusal.
    """

    def __init__(
        self,
        limits: CallerLimits,
        now: Callable[[], float] = time.monotonic,
        *,
        what: str = "calls of this caller",
    ) -> None:
        self._limits = limits
        self._now = now
        self._what = what
        self._callers: dict[str, _Caller] = {}
        self._tidy_above = _TIDY_ABOVE

    def __len__(self) -> int:
        return len(self._callers)

    def admit(self, key: str) -> Counted:
        """Count one call until it is closed.

        Args:
            key: the caller's identity, or its address.

        Raises:
            CallerBusyError: the caller has as many calls as it may have.
            RateError: the caller has made too many lately; tells when the next may come.
        """
        now = self._now()
        if len(self._callers) > self._tidy_above:
            self._tidy(now)
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = _Caller(self._limits.burst, now)
        self._check_room(caller, 1)
        self._take(caller, now)
        return Counted(caller, 1)

    def hold(self, key: str, more: int) -> Counted:
        """Count an admitted call's further samples as calls until they are closed.

        Args:
            key: as it was admitted.
            more: samples beside the first.

        Raises:
            CallerBusyError: the caller has no room for so many now.
            InputError: the caller never has.
        """
        if more >= self._limits.calls:
            raise InputError(
                "sample_count",
                f"must be at most {self._limits.calls}, which is what one caller may have running, "
                f"got {more + 1}",
            )
        caller = self._callers[key]
        self._check_room(caller, more)
        return Counted(caller, more)

    def _check_room(self, caller: _Caller, more: int) -> None:
        limit = self._limits.calls
        if caller.calls + more > limit:
            raise CallerBusyError(
                f"{caller.calls} calls and samples of this caller are running, the limit is "
                f"{limit}; {more} more must wait for some to end"
            )

    def _take(self, caller: _Caller, now: float) -> None:
        limits = self._limits
        if not limits.rate:
            return
        self._fill(caller, now)
        if caller.level < 1:
            seconds = (1 - caller.level) / limits.rate
            raise RateError(
                f"more than {limits.rate:g} {self._what} a second; wait "
                f"{math.ceil(seconds * 1e3)} ms",
                seconds,
            )
        caller.level -= 1

    def _fill(self, caller: _Caller, now: float) -> None:
        grown = caller.level + (now - caller.filled) * self._limits.rate
        caller.level, caller.filled = min(grown, float(self._limits.burst)), now

    def _tidy(self, now: float) -> None:
        """Forget callers that are as good as new."""
        for key, caller in list(self._callers.items()):
            self._fill(caller, now)
            is_full = caller.level >= self._limits.burst or not self._limits.rate
            if not caller.calls and is_full:
                del self._callers[key]
        self._tidy_above = max(_TIDY_ABOVE, 2 * len(self._callers))
