"""How long a loop run may be."""

from collections import deque

from serving.engine.sequence import Sequence

LONGEST_RUN = 64  # steps
FIRST_SYMBOLS = 4  # a loop run ends this many symbols after a row's first one
REMEMBERED = 5  # runs; of an odd number of them up to half may be outliers


class RunLength:
    """Chooses how many steps a loop run makes, from how long steps take.

    A new request waits for at most one run, so a run is bounded in time; it is shorter while a
    row is about to have its first symbols. A step's time is the median of the last runs of that
    size, so that a run which the machine held up does not shorten those that follow.

    Args:
        seconds: about how long a loop run may take; half a step more or less.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._samples: dict[int, deque[float]] = {}  # by the power of two above the batch size

    def steps(self, rows: list[Sequence]) -> int:
        """Return the number of steps of the next loop run, 1 or more."""
        longest = self._in_time(_size_class(len(rows)))
        for row in rows:
            if not row.generated:
                longest = min(longest, _until_first(row))
        if any(row.steps >= longest for row in rows):  # the first already, most of the time
            return max(longest, 1)
        return max(row.steps for row in rows)

    def learn(self, rows: int, steps: int, seconds: float) -> None:
        """Record how long a loop run took."""
        samples = self._samples.setdefault(_size_class(rows), deque(maxlen=REMEMBERED))
        samples.append(seconds / steps)

    def _in_time(self, size: int) -> int:
        """Return how many steps of a batch are in time; a guess at a new size stays short."""
        if size in self._samples:
            samples = sorted(self._samples[size])
            return min(LONGEST_RUN, round(self._seconds / samples[len(samples) // 2]))
        if not self._samples:
            return 1
        near = min(self._samples, key=lambda known: abs(known - size))
        # A step of twice the rows takes at most twice as long.
        longest = max(self._samples[near]) * 2 ** max(size - near, 0)
        return min(FIRST_SYMBOLS, int(self._seconds / longest))


def _until_first(row: Sequence) -> int:
    """Return after how many steps a row has its first symbols; long if nobody waits for them."""
    request, left = row.request, row.prompt_left
    if not request.max_new_symbols:
        return LONGEST_RUN
    if left and row.steps <= left:  # the prompt's state is kept where it ends; the row stops there
        return row.steps
    return min(left + FIRST_SYMBOLS, row.left) if request.is_streamed else LONGEST_RUN


def _size_class(rows: int) -> int:
    return (rows - 1).bit_length()
