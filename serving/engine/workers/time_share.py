"""How much of its caller's thread's time the runs made there may take."""

SHARE_AT_MOST = 0.25  # more costs a busy server: 64 clients with texts of 4 symbols had 0.83
WINDOW_SECONDS = 0.02  # over which the share is taken
REST_SECONDS = 0.2  # without such runs, once a window had too many


class TimeShare:
    """Holds runs on their callers' thread to a share of its time."""

    def __init__(self) -> None:
        self._began = 0.0  # of the window
        self._spent = 0.0  # seconds of runs in it
        self._rests_until = 0.0

    def is_left(self, now: float) -> bool:
        """Tell whether another run may follow.

        Args:
            now: time.monotonic().
        """
        seconds = now - self._began
        if seconds >= WINDOW_SECONDS:
            if self._spent > SHARE_AT_MOST * seconds:
                self._rests_until = now + REST_SECONDS
            self._began, self._spent = now, 0.0
        return now >= self._rests_until

    def spend(self, seconds: float) -> None:
        """Note how long a run took."""
        self._spent += seconds
