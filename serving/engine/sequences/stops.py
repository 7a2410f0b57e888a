"""How a text ends: stop strings, found in a text that comes in pieces."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from unroll.bundle.vocabulary import Vocabulary

ONE = np.uint64(1)
BITS = 64  # of a row's state; stop strings with more symbols are looked for in the text


@dataclass(frozen=True)
class Scan:
    """What one more piece of text settled.

    Attributes:
        settled: how many symbols of held + new text can go out.
        ends_at: where a stop string ends in held + new text, if one is complete.
    """

    settled: int
    ends_at: int | None


def scan(text: str, stops: tuple[str, ...], held: int = 0) -> Scan:
    """Find the stop string that is complete first, or what might become one.

    The answer for the whole text does not depend on how it was cut into pieces: the stop string
    with the smallest end wins and, of those that end together, the one that starts first.

    Args:
        text: what an earlier scan held back, then the new text.
        stops: the stop strings, none empty.
        held: how many symbols an earlier scan held back; no stop string that ends there counts, for
            the stop strings may be others than they were.
    """
    found = [
        (start + len(stop), start)
        for stop in stops
        if (start := text.find(stop, max(held - len(stop) + 1, 0))) >= 0
    ]
    if found:
        end, start = min(found)
        return Scan(settled=start, ends_at=end)
    longest = min(max(map(len, stops), default=0) - 1, len(text))
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(stop.startswith(tail) for stop in stops):
            return Scan(settled=len(text) - length, ends_at=None)
    return Scan(settled=len(text), ends_at=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class StopMasks:
    """Stop strings for the Shift-And algorithm (Baeza-Yates, Gonnet, 1992): a bit for each symbol.

    After each token, state = ((state << 1) | begins) & masks[token]: a bit is set where the text
    ends with the stop string's symbols up to that bit's, and a stop string is complete where
    `state & ends` is not 0. Any number of rows can be followed at once.

    Attributes:
        masks: the bits of each token's places in stop strings, (V,).
        begins: bits of the stop strings' first symbols.
        ends: bits of their last ones.
        places: the bits of each symbol's places.
    """

    masks: NDArray[np.uint64]
    begins: np.uint64
    ends: np.uint64
    places: dict[str, int]

    @cached_property
    def are_single(self) -> bool:
        """Whether each stop string has one symbol."""
        return bool(self.begins == self.ends)

    @cached_property
    def is_end(self) -> NDArray[np.bool_]:
        """Which tokens are the last symbol of a stop string, (V,)."""
        is_end: NDArray[np.bool_] = (self.masks & self.ends) != 0
        return is_end

    def after(self, text: str) -> np.uint64:
        """Return the state after a text."""
        state = 0
        for symbol in text:
            state = (state << 1 | int(self.begins)) & self.places.get(symbol, 0)
        return np.uint64(state)


@lru_cache(maxsize=64)
def stop_masks(stops: tuple[str, ...], vocabulary: Vocabulary) -> StopMasks | None:
    """Return the masks of stop strings; None if they have too many symbols.

    Args:
        stops: each of one symbol or more.
        vocabulary: of the text; a stop string with another symbol never comes.
    """
    known = [stop for stop in set(stops) if set(stop) <= set(vocabulary.symbols)]
    if sum(map(len, known)) > BITS:
        return None
    places: dict[str, int] = {}
    begins = ends = bit = 0
    for stop in known:
        begins |= 1 << bit
        for symbol in stop:
            places[symbol] = places.get(symbol, 0) | 1 << bit
            bit += 1
        ends |= 1 << bit - 1
    masks = np.zeros(len(vocabulary), np.uint64)
    for symbol, bits in places.items():
        masks[vocabulary.encode(symbol)] = bits
    return StopMasks(masks=masks, begins=np.uint64(begins), ends=np.uint64(ends), places=places)


class StopRows:
    """Follows the stop strings of all rows of a worker.

    Args:
        capacity: how many slots.
    """

    def __init__(self, capacity: int) -> None:
        self._of: list[StopMasks | None] = [None] * capacity
        self._masks = np.zeros((capacity, 0), np.uint64)  # has columns once a stop string came
        self._begins, self._ends, self._states = np.zeros((3, capacity), np.uint64)
        self._common: StopMasks | None = None  # those of all slots

    def put(self, slot: int, stops: StopMasks | None, held: str) -> None:
        """Note what a row's text ends with, and what of it may become a stop string."""
        if stops is not self._of[slot]:
            self._of[slot] = stops
            self._common = stops if all(each is stops for each in self._of) else None
            self._begins[slot] = 0 if stops is None else stops.begins
            self._ends[slot] = 0 if stops is None else stops.ends
            if stops is not None:
                if not self._masks.shape[1]:
                    self._masks = np.zeros((len(self._of), len(stops.masks)), np.uint64)
                self._masks[slot] = stops.masks
        if stops is not None:
            self._states[slot] = stops.after(held) if held else 0

    def follow(
        self,
        slots: NDArray[np.int64],
        tokens: NDArray[np.int64],
        counted: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> dict[int, int]:
        """Return after how many steps a stop string is complete, by the row's place.

        Args:
            slots: of the rows, (N,).
            tokens: that came, (T, N).
            counted: how many of them were forced, (N,), and how many count, (N,); None if none was
                and all do.
        """
        common = self._common
        if common is not None and common.are_single:
            found = common.is_end[tokens]
            if counted is not None:
                found[_uncounted(len(tokens), *counted)] = False
        else:
            found = self._complete(slots, tokens, counted)
        steps, places = (each[::-1].tolist() for each in found.nonzero())  # the first one counts
        return {place: step + 1 for place, step in zip(places, steps, strict=True)}

    def _complete(
        self,
        slots: NDArray[np.int64],
        tokens: NDArray[np.int64],
        counted: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> NDArray[np.bool_]:
        """Follow stop strings of any length; tell where one is complete, (T, N)."""
        begins: NDArray[np.uint64] | np.uint64
        ends: NDArray[np.uint64] | np.uint64
        if self._common is not None:
            begins, ends, masks = self._common.begins, self._common.ends, self._common.masks[tokens]
        else:
            begins, ends = self._begins[slots], self._ends[slots]
            if not ends.any():
                return np.zeros((0, 0), np.bool_)
            masks = self._masks[slots, tokens]
        if counted is not None:
            masks[_uncounted(len(tokens), *counted)] = 0
        if (begins != ends).any():  # else each has one symbol
            state = self._states[slots]
            for mask in masks:
                state = mask & (state << ONE | begins)
                mask[:] = state
            self._states[slots] = state
        is_complete: NDArray[np.bool_] = (masks & ends) != 0
        return is_complete


def _uncounted(
    steps: int, reading: NDArray[np.int64], made: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which symbols of a run do not count, (T, N), by how many are forced and made, (N,)."""
    time = np.arange(steps)[:, None]
    return (time < reading) | (time >= made)
