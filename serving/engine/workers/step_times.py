"""How long a step of a short request's loop run takes, as the latest runs showed."""

import threading
import time
from collections import defaultdict, deque
from typing import NamedTuple

from serving.engine.sequences.request import SequenceRequest

REMEMBERED = 5  # runs of a kind
FORGOTTEN_SECONDS = 10.0  # after which a run no longer tells how long another takes


class Kind(NamedTuple):
    """What a request's steps do, by which they take up to three times as long."""

    is_score: bool
    is_filtered: bool

    @classmethod
    def of(cls, request: SequenceRequest) -> "Kind":
        """Tell the kind of a request."""
        sampling = request.sampling
        is_filtered = sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
        is_score = not request.max_new_symbols
        return cls(is_score, is_filtered and not is_score)


class StepTimes:
    """Remembers seconds a step of the latest runs of each kind; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the other
        # With time.monotonic() when each was learned.
        self._latest: defaultdict[Kind, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED)
        )

    def learn(self, kind: Kind, seconds: float) -> None:
        """Remember how long a step of a run took."""
        now = time.monotonic()
        with self._lock:
            runs = self._latest[kind]
            if not _is_recent(runs, now):
                runs.clear()
            runs.append((now, seconds))

    def known(self, kind: Kind, now: float) -> list[float]:
        """Return seconds a step of the latest runs of a kind; of all kinds if it has none.

        Args:
            kind: of the request.
            now: time.monotonic().
        """
        with self._lock:
            own = self._latest[kind]
            told = [own] if _is_recent(own, now) else self._latest.values()
            return [seconds for runs in told if _is_recent(runs, now) for _, seconds in runs]


def _is_recent(runs: deque[tuple[float, float]], now: float) -> bool:
    return bool(runs) and now - runs[-1][0] < FORGOTTEN_SECONDS
