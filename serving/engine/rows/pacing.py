"""How long a loop run may be."""

from collections import deque
from math import ceil, expm1, log1p

import numpy as np
from numpy.typing import NDArray

LONGEST_RUN = 64  # steps
FIRST_SYMBOLS = 4  # with how many a loop run ends that a row's first one ends too dearly
HURRY = 0.05  # share of the time that runs may cost which end with a row's first symbol
HURRY_SECONDS = 0.02  # of it that may be saved up
REMEMBERED = 5  # runs; of an odd number of them up to half may be outliers
TOGETHER = 0.75  # of the longest row's steps all rows have left on average, if they end together
FORGOTTEN = 0.02  # of what is known about stop strings, with each run
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32, 40, 48, LONGEST_RUN)


class RunLength:
    """Chooses how many steps a loop run makes, from how long steps take.

    A new request waits for at most one run, so a run is bounded in time. It ends with a row's first
    symbol where somebody waits for that, or a few symbols later where many such runs would take
    too much of the others' time. A step's time is the median of the last runs of that
    size, so that a run which the machine held up does not shorten those that follow.

    A row that ends within a run makes the rest of it for nothing. While others wait for its slot,
    or where a run only reads, it is as long as gives most symbols a second: the longer, the more
    steps are wasted; the shorter, the more time goes between runs.

    Args:
        seconds: about how long a loop run may take; half a step more or less.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # By the power of two above the batch size, of runs that draw symbols and that only read.
        self._samples: dict[int, deque[float]] = {}
        self._read_samples: dict[int, deque[float]] = {}
        self._pauses: deque[float] = deque(maxlen=REMEMBERED)
        self._hurry = HURRY_SECONDS  # that runs may still cost which end with a first symbol
        self._written = self._stops = 0.0  # by texts with stop strings; old ones count less

    def steps(
        self,
        left: NDArray[np.int64],
        may_stop: NDArray[np.bool_],
        until_first: int = LONGEST_RUN,
        *,
        known: int = 0,
        is_awaited: bool = False,
    ) -> int:
        """Return the number of steps of the next loop run, 1 or more.

        Args:
            left: steps that each row makes at most, (N,).
            may_stop: which rows a stop string may end, (N,).
            until_first: after how many steps a row has the first symbol that somebody waits for.
            known: for how many steps the run would only read.
            is_awaited: whether others wait for the rows' slots.
        """
        size, most = _size_class(len(left)), int(left.max())
        steps = max(min(self._in_time(size, self._samples), most), 1)
        if until_first < steps:
            steps = min(until_first + self._behind_first(), steps)
        if known >= steps:
            steps = self._reading_steps(left, min(known, most), size)
        elif is_awaited and size in self._samples:
            steps = self._most_fruitful(left, may_stop, steps, _median(self._samples[size]))
        return steps

    def learn(
        self, rows: int, steps: int, seconds: float, pause: float, *, is_read: bool = False
    ) -> None:
        """Record a loop run.

        Args:
            rows: that made it.
            steps: that it made.
            seconds: that it took.
            pause: seconds that went before and after it, whatever its length; not those that go
                for each text that ends or begins: they are the same for any length.
            is_read: whether every symbol was known.
        """
        of_kind = self._read_samples if is_read else self._samples
        samples = of_kind.setdefault(_size_class(rows), deque(maxlen=REMEMBERED))
        samples.append(seconds / steps)
        self._pauses.append(pause)
        self._hurry = min(self._hurry + HURRY * (seconds + pause), HURRY_SECONDS)

    def learn_stops(self, written: int, stops: int) -> None:
        """Record how many symbols texts with stop strings got, and how many of them stopped."""
        self._written = (1 - FORGOTTEN) * self._written + written
        self._stops = (1 - FORGOTTEN) * self._stops + stops

    def _behind_first(self) -> int:
        """Return how many steps a run makes behind a row's first symbol."""
        cost = _median(self._pauses) if self._pauses else 0.0
        if cost > self._hurry:
            return FIRST_SYMBOLS - 1
        self._hurry -= cost
        return 0

    def _reading_steps(self, left: NDArray[np.int64], known: int, size: int) -> int:
        """Return the number of steps of a run that only reads.

        Rows with about as much left end together, so that those that follow begin together, too.
        A run with most symbols a second would be shorter, and the next one shorter still.

        Args:
            left: steps that each row makes at most, (N,).
            known: for how many steps the run would only read.
            size: of the batch, as a class.
        """
        steps = max(min(self._in_time(size, self._read_samples), known), 1)
        if left.mean() >= TOGETHER * known:
            return ceil(known / ceil(known / steps))
        if size not in self._read_samples:
            return steps
        step = _median(self._read_samples[size])
        return self._most_fruitful(left, np.zeros(len(left), np.bool_), steps, step)

    def _most_fruitful(
        self, left: NDArray[np.int64], may_stop: NDArray[np.bool_], longest: int, step: float
    ) -> int:
        """Return the length, up to the longest, with most useful steps in a second.

        Args:
            left: steps that each row makes at most, (N,).
            may_stop: which rows a stop string may end, (N,).
            longest: length.
            step: seconds of one.
        """
        lengths = [*(each for each in LENGTHS if each < longest), longest]
        useful, pause = _useful(lengths, left, may_stop, self._stop_rate), _median(self._pauses)
        rates = [one / (each * step + pause) for one, each in zip(useful, lengths, strict=True)]
        return lengths[rates.index(max(rates))]

    @property
    def _stop_rate(self) -> float:
        """How likely a text with stop strings ends by one with its next symbol."""
        return self._stops / self._written if self._written else 0.0

    def _in_time(self, size: int, samples: dict[int, deque[float]]) -> int:
        """Return how many steps of a batch are in time; a guess at a new size stays short."""
        if size in samples:
            return min(LONGEST_RUN, round(self._seconds / _median(samples[size])))
        if not samples:
            return 1
        near = min(samples, key=lambda known: abs(known - size))
        # A step of twice the rows takes at most twice as long.
        longest = max(samples[near]) * 2 ** max(size - near, 0)
        return min(FIRST_SYMBOLS, int(self._seconds / longest))


def _useful(
    lengths: list[int], left: NDArray[np.int64], may_stop: NDArray[np.bool_], stop_rate: float
) -> list[float]:
    """Return how many steps of a run are useful, on average, for each of its lengths.

    Args:
        lengths: of the run, rising, (lengths,).
        left: steps that each row makes at most, (N,).
        may_stop: whether a stop string may end it before, (N,).
        stop_rate: how likely it does, with each symbol.
    """
    rate = min(max(stop_rate, 1e-9), 0.5)
    survives = log1p(-rate)
    before_stop = [-expm1(steps * survives) / rate for steps in lengths]
    # Rows that go on behind the run, nearly all as a rule, are as good as one another.
    goes_on = left >= lengths[-1]
    stoppable = int(np.count_nonzero(goes_on & may_stop))
    others = int(np.count_nonzero(goes_on)) - stoppable
    useful = [
        stoppable * before + others * steps
        for steps, before in zip(lengths, before_stop, strict=True)
    ]
    if stoppable + others < len(left):
        steps = np.minimum.outer(lengths, left[~goes_on])
        before = -np.expm1(steps * survives) / rate
        rest = np.where(may_stop[~goes_on], before, steps).sum(axis=1)
        useful = [one + more for one, more in zip(useful, rest.tolist(), strict=True)]
    return useful


def _median(samples: deque[float]) -> float:
    return sorted(samples)[len(samples) // 2]


def _size_class(rows: int) -> int:
    return (rows - 1).bit_length()
