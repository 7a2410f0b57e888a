"""States after prompt prefixes, so that each prefix is read only once."""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.engine.sequences.snapshot import Snapshot

ENTRY_BYTES = 400  # what an entry takes besides its state, measured
LOOKS_AT_MOST = 1024
SHORTEST_PREFIX = 32  # symbols; to read fewer again costs less than to stop after them
BLOCK = 256  # symbols; prompts that share a beginning share its whole blocks


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A prefix that was found: how many symbols it has and where the text stands after them."""

    length: int
    snapshot: Snapshot


class PrefixCache:
    """Keeps the states after prompt prefixes that start a text, the least recently used first.

    Any thread may use it.

    Each caller has prefixes of its own: how long an answer takes tells nobody what others asked.
    A lookup hashes each block of the prompt once, and then at most so many ends of prompts that
    are kept as LOOKS_AT_MOST says, from the longest down, whatever else is kept.

    Args:
        limit_bytes: memory it takes at most; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()  # guards all below
        self._bytes = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        # By the key of whole blocks: how many symbols further prompts end, and how many do there.
        self._tails: dict[bytes, Counter[int]] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_on(self) -> bool:
        """Whether it may keep anything."""
        return self._limit > 0

    def find(self, prompt: NDArray[np.int64], caller: bytes = b"") -> Prefix | None:
        """Return the longest prefix of a prompt that this caller's earlier prompts left here.

        Args:
            prompt: token ids from the text's start, (symbols,).
            caller: who asks.
        """
        with self._lock:
            keys = islice(self._keys(prompt, caller), LOOKS_AT_MOST)
            found = next((key for key in keys if key in self._entries), None)
            if found is None:
                self.misses += 1
                return None
            self._entries.move_to_end(found)
            self.hits += 1
            return self._entries[found].prefix

    def _keys(self, prompt: NDArray[np.int64], caller: bytes) -> Iterator[bytes]:
        """Yield the keys under which a prompt's prefixes may be kept, the longest first."""
        for block in reversed(_whole_blocks(prompt, caller)):
            left = _as_bytes(prompt[block.length : block.length + BLOCK])
            for length in sorted(self._tails.get(block.key, ()), reverse=True):
                if 4 * length <= len(left):
                    yield block.after(left[: 4 * length])

    def add(self, prompt: NDArray[np.int64], snapshot: Snapshot, caller: bytes = b"") -> None:
        """Keep the state after a whole prompt, (symbols,)."""
        size = len(snapshot.state) + ENTRY_BYTES
        block = _whole_blocks(prompt, caller)[-1]
        key = block.after(_as_bytes(prompt[block.length :]))
        prefix = Prefix(length=len(prompt), snapshot=snapshot)
        with self._lock:
            if size > self._limit or key in self._entries:
                return
            self._entries[key] = _Entry(prefix, block.key)
            self._bytes += size
            tail = len(prompt) - block.length
            self._tails.setdefault(block.key, Counter())[tail] += 1
            while self._bytes > self._limit:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, (prefix, block) = self._entries.popitem(last=False)
        self._bytes -= len(prefix.snapshot.state) + ENTRY_BYTES
        tails = self._tails[block]
        tails[prefix.length % BLOCK] -= 1
        if not tails[prefix.length % BLOCK]:
            del tails[prefix.length % BLOCK]
        if not tails:
            del self._tails[block]


class _Entry(NamedTuple):
    prefix: Prefix
    block: bytes  # the key of its whole blocks


class _Block(NamedTuple):
    """The whole blocks that a prompt begins with, up to one of them."""

    length: int
    hasher: "hashlib._Hash"

    @property
    def key(self) -> bytes:
        return self.hasher.digest()

    def after(self, tail: bytes) -> bytes:
        """Return the key of these blocks and a tail."""
        hasher = self.hasher.copy()
        hasher.update(tail)
        return hasher.digest()


def next_boundary(position: int, prompt_length: int) -> int:
    """Return the next position whose state is kept: the end of a block or of the prompt."""
    return min((position // BLOCK + 1) * BLOCK, prompt_length)


def is_boundary(position: int, prompt_length: int) -> bool:
    """Whether a prompt's state is worth keeping there."""
    return position == prompt_length or (position < prompt_length and position % BLOCK == 0)


def _whole_blocks(prompt: NDArray[np.int64], caller: bytes) -> list[_Block]:
    """Return the runs of whole blocks that a prompt begins with, in rising order; none is one."""
    hasher, ids = hashlib.sha256(caller), _as_bytes(prompt)
    blocks = [_Block(0, hasher.copy())]
    for end in range(BLOCK, len(prompt) + 1, BLOCK):
        hasher.update(ids[4 * (end - BLOCK) : 4 * end])
        blocks.append(_Block(end, hasher.copy()))
    return blocks


def _as_bytes(ids: NDArray[np.int64]) -> bytes:
    return ids.astype("<i4").tobytes()
