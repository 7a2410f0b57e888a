"""Durations counted in buckets, so that a run of any length takes the same memory."""

import math
from collections.abc import Iterable, Mapping
from typing import Self

SHORTEST = 1e-6  # seconds; what is shorter counts as this
RATIO = 1.01  # between the bounds of neighbouring buckets: a quantile is right within 1 %
_SCALE = 1 / math.log(RATIO)


class Histogram:
    """Counts of durations; bucket b holds those around SHORTEST * RATIO ** b seconds.

    Args:
        counts: by bucket.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def add(self, seconds: float) -> None:
        """Count a duration."""
        bucket = round(math.log(max(seconds, SHORTEST) / SHORTEST) * _SCALE)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def quantile(self, part: float) -> float | None:
        """Return the duration in seconds that such a part, in [0, 1], stays below or at.

        None if nothing was counted.
        """
        wanted, seen = part * self.total, 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return bucket_seconds(bucket)
        return None

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts.values())

    def points(self) -> list[tuple[float, int]]:
        """Return each bucket's duration in seconds and its count, rising."""
        return [(bucket_seconds(bucket), self.counts[bucket]) for bucket in sorted(self.counts)]

    @classmethod
    def merged(cls, parts: Iterable["Histogram"]) -> Self:
        """Add up several."""
        whole = cls()
        for part in parts:
            for bucket, count in part.counts.items():
                whole.counts[bucket] = whole.counts.get(bucket, 0) + count
        return whole


def bucket_seconds(bucket: int) -> float:
    """Return the duration that a bucket stands for, in seconds."""
    return SHORTEST * math.exp(bucket / _SCALE)
