"""The time by which sessions expire: what the store itself saw pass."""

import time


class StoreClock:
    """Tells unix time as far as it is known, and never jumps.

    It starts where the store last stood and then counts what the machine's monotonic clock counts,
    so that a wall clock that is set forward or back, before the start or while the server runs,
    expires nothing. Time in which no server ran does not count as idle.

    Args:
        starts: unix time in seconds.
    """

    def __init__(self, starts: float) -> None:
        self._offset = starts - time.monotonic()

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self._offset + time.monotonic()
