"""When a call that failed is made again, for both clients."""

import logging
import random
import time

from unroll.errors import ClosedError, OverloadedError, UnavailableError, UnrollError
from unroll.sent import seconds_as_sent

# What a server refuses before it begins, so that nothing has changed.
REFUSALS = (OverloadedError, ClosedError)
FIRST_PAUSE = 0.1  # seconds, doubled each time, where no server told how long to wait
LONGEST_PAUSE = 30.0  # seconds; a longer wait is the caller's to decide
JITTER = 0.5  # a pause is up to this share longer, so that clients do not come back all at once

log = logging.getLogger(__name__)


class Deadline:
    """The end of a call that may take several attempts.

    Args:
        timeout: in seconds from now; None for never.
    """

    def __init__(self, timeout: float | None) -> None:
        seconds = seconds_as_sent(timeout)
        self._ends = None if seconds is None else time.monotonic() + seconds

    @property
    def seconds_left(self) -> float | None:
        """How long it may still take, 0 or more; None for as long as it likes."""
        return None if self._ends is None else max(self._ends - time.monotonic(), 0.0)


class Attempts:
    """The attempts of one unary call.

    Args:
        retries: how often it is made again at most.
        timeout: of all attempts and the pauses between them, in seconds; None for never.
        is_repeatable: whether it changes nothing at the server. If so, it is made again whenever
            the server says when, or cannot be reached; else only if it was refused before it began.
    """

    def __init__(self, retries: int, timeout: float | None, *, is_repeatable: bool) -> None:
        self._left = retries
        self._deadline = Deadline(timeout)
        self._is_repeatable = is_repeatable
        self._backoff = FIRST_PAUSE

    @property
    def seconds_left(self) -> float | None:
        """The timeout of the next attempt."""
        return self._deadline.seconds_left

    def pause(self, error: UnrollError) -> float:
        """Return how many seconds to wait before the next attempt.

        Raises:
            UnrollError: the error, if there is no next attempt.
        """
        shortest = self._shortest(error)
        if shortest is None or not self._left or shortest > LONGEST_PAUSE:
            raise error
        pause = shortest * (1 + JITTER * random.random())
        left = self.seconds_left
        if left is not None and pause >= left:
            raise error
        self._left -= 1
        self._backoff *= 2
        log.info("a call failed; retrying in %.2f s: %s", pause, error)
        return pause

    def _shortest(self, error: UnrollError) -> float | None:
        """Return the shortest pause before another attempt; None where none may follow."""
        if error.retry_after is not None and (self._is_repeatable or isinstance(error, REFUSALS)):
            return error.retry_after
        if self._is_repeatable and isinstance(error, UnavailableError):
            return self._backoff
        return None
