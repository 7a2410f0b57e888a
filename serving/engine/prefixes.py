"""States of prompt prefixes that were read already, so that they are not read again."""

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.engine.snapshot import Snapshot

ENTRY_BYTES = 400  # what an entry takes besides its state, measured
BLOCK = 256  # symbols; prompts that share a beginning share its whole blocks


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A prefix that was found: how many symbols it has and where the text stands after them."""

    length: int
    snapshot: Snapshot


class PrefixCache:
    """Keeps the states after prompt prefixes that start a text, the least recently used first.

    Args:
        limit_bytes: memory it takes at most; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, Prefix] = OrderedDict()
        self._lengths: Counter[int] = Counter()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_on(self) -> bool:
        """Whether it may keep anything."""
        return self._limit > 0

    def find(self, prompt: NDArray[np.int64]) -> Prefix | None:
        """Return the longest prefix of a prompt that is here.

        Args:
            prompt: token ids from the text's start, (symbols,).
        """
        lengths = sorted(length for length in self._lengths if length <= len(prompt))
        for key in reversed(_keys(prompt, lengths)):
            if key in self._entries:
                self._entries.move_to_end(key)
                self.hits += 1
                return self._entries[key]
        self.misses += 1
        return None

    def add(self, prompt: NDArray[np.int64], snapshot: Snapshot) -> None:
        """Keep the state after a whole prompt, (symbols,)."""
        size = len(snapshot.state) + ENTRY_BYTES
        key = _keys(prompt, [len(prompt)])[0]
        if size > self._limit or key in self._entries:
            return
        self._entries[key] = Prefix(length=len(prompt), snapshot=snapshot)
        self._lengths[len(prompt)] += 1
        self._bytes += size
        while self._bytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= len(oldest.snapshot.state) + ENTRY_BYTES
            self._lengths[oldest.length] -= 1
            if not self._lengths[oldest.length]:
                del self._lengths[oldest.length]


def next_boundary(position: int, prompt_length: int) -> int:
    """Return where a prompt's state is next worth keeping: at a block's end or its own."""
    return min((position // BLOCK + 1) * BLOCK, prompt_length)


def is_boundary(position: int, prompt_length: int) -> bool:
    """Whether a prompt's state is worth keeping there."""
    return position == prompt_length or (position < prompt_length and position % BLOCK == 0)


def _keys(prompt: NDArray[np.int64], lengths: list[int]) -> list[bytes]:
    """Hash the prefixes of the given lengths, in rising order, in one pass."""
    keys, done = [], 0
    hasher = hashlib.sha256()
    ids = prompt.astype("<i4")
    for length in lengths:
        hasher.update(ids[done:length].tobytes())
        keys.append(hasher.digest())
        done = length
    return keys
