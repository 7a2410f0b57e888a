"""How symbols are drawn: the sampling parameters and the random numbers."""

import math
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unroll.errors import InputError
from unroll.options import MIN_P, TEMPERATURE, TOP_K, TOP_P
from unroll.ranges import check_number
from unroll.terms import BIAS_RANGE

LAST_COUNTER = (2**64 - 1,) * 4
WORDS = 4  # of a counter
BLOCK = 256  # positions; enough that making a block (20 us) is rare
FEW = 32  # numbers; they are made each time, which takes a third of that


def check_bias(bias: float, of: str) -> float:
    """Return a bias of what a caller calls so.

    Raises:
        InputError: it is out of its range.
    """
    least, most = BIAS_RANGE
    if not (least <= bias <= most or bias == -math.inf):
        told = f"must be between {least:g} and {most:g}, or -inf to ban the symbol"
        raise InputError("logit_bias", f"{told}, got {bias:g} for {of}")
    return bias


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next symbol is drawn from the model's distribution.

    The filters judge the distribution after temperature: top_k first, then top_p on what it
    left, then min_p.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest symbol; else 0.001 to 1000.
        top_k: keeps the k likeliest symbols; 0 keeps all.
        top_p: keeps the smallest set of likeliest symbols that sums to this; in (0, 1].
        min_p: keeps symbols this times as probable as the likeliest; in [0, 1].
        logit_bias: what is added to the logits of some token ids, in rising order, before
            temperature; in [-100, 100], or -inf, which bans.

    Raises:
        InputError: a field is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, TEMPERATURE)
        check_number("top_k", self.top_k, TOP_K)
        check_number("top_p", self.top_p, TOP_P)
        check_number("min_p", self.min_p, MIN_P)
        for token, bias in self.logit_bias:
            check_bias(bias, f"token {token}")

    @property
    def banned(self) -> tuple[int, ...]:
        """The token ids that are never drawn."""
        return tuple(token for token, bias in self.logit_bias if bias == -math.inf)


class _Philox(threading.local):
    """A generator for each thread: to set one takes a fifth of the time of making one."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(0)
        self._state = self._philox.state

    def uniforms(self, seed: int, counter: int, count: int) -> NDArray[np.float32]:
        """Return so many numbers, from the first word of a counter on."""
        # NumPy's Philox counts up before it draws: counter c gives the words of counter c + 1.
        self._state["state"]["counter"][:] = (counter - 1, 0, 0, 0) if counter else LAST_COUNTER
        self._state["state"]["key"][:] = seed, 0
        self._philox.state = self._state
        raw: NDArray[np.uint64] = self._philox.random_raw(count)
        uniform = (raw >> np.uint64(40)).astype(np.float32)
        uniform *= np.float32(2**-24)
        uniform.flags.writeable = False
        return uniform


_philox = _Philox()


@lru_cache(maxsize=4096)
def _block(seed: int, index: int) -> NDArray[np.float32]:
    return _philox.uniforms(seed, index * (BLOCK // WORDS), BLOCK)


def uniforms(seed: int, position: int, count: int) -> NDArray[np.float32]:
    """Return the random numbers of `count` positions from `position` on.

    Number p is a pure function of (seed, p): with Philox4x64-10 (Salmon et al., "Parallel random
    numbers: as easy as 1, 2, 3", SC11) under the key (seed, 0), it is the upper 24 bits of word
    p mod 4 of the block with counter p div 4, times 2^-24.

    Args:
        seed: in [0, 2^63).
        position: in [0, 2^62).
        count: how many.

    Returns:
        Numbers in [0, 1), shape (count,).
    """
    if count <= FEW:
        counter, offset = divmod(position, WORDS)
        return _philox.uniforms(seed, counter, offset + count)[offset:]
    first, last = position // BLOCK, (position + max(count, 1) - 1) // BLOCK
    offset = position - first * BLOCK
    if first == last:
        return _block(seed, first)[offset : offset + count]
    blocks = [_block(seed, index) for index in range(first, last + 1)]
    return np.concatenate(blocks)[offset : offset + count]
