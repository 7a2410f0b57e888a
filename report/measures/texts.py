"""Measures of a written text: its words, its repetitions, its marks, what it has copied."""

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
NGRAM = 4  # words
PAIRS = {"“": "”", "(": ")", "[": "]"}
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
BITS = 20


def words(text: str) -> list[str]:
    """List the words of a text in lower case; an apostrophe between letters belongs to a word."""
    return [word.lower() for word in WORD.findall(text)]


def known_words(text: str, lexicon: set[str]) -> tuple[int, int]:
    """Count the words of a text that a lexicon holds, and all of them.

    The first and the last word are left out, since a text is cut where it is cut.
    """
    whole = words(text)[1:-1]
    return sum(word in lexicon for word in whole), len(whole)


def repeated_ngrams(text: str) -> tuple[int, int]:
    """Count the runs of four words that stood in the text before, and all runs of four."""
    listed = words(text)
    runs = [tuple(listed[i : i + NGRAM]) for i in range(len(listed) - NGRAM + 1)]
    return len(runs) - len(set(runs)), len(runs)


def closed_marks(text: str) -> tuple[int, int]:
    """Count the quotation marks and brackets that were closed, and all that were opened.

    Each must be closed in its paragraph, after which the next begins with none open. Straight
    quotation marks open and close in turn. The last paragraph is left out where there are others,
    since a text is cut where it is cut.
    """
    paragraphs = re.split(r"\n\s*\n", text)
    counts = [_closed(paragraph) for paragraph in paragraphs[:-1] or paragraphs]
    return sum(closed for closed, _ in counts), sum(opened for _, opened in counts)


def _closed(paragraph: str) -> tuple[int, int]:
    straight = paragraph.count('"')
    closed, opened, waiting = straight // 2, (straight + 1) // 2, list[str]()
    for symbol in paragraph:
        if symbol in PAIRS:
            waiting.append(PAIRS[symbol])
            opened += 1
        elif waiting and symbol == waiting[-1]:
            waiting.pop()
            closed += 1
    return closed, opened


class Source:
    """A text that others may have copied from.

    Args:
        text: the text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._runs = _Runs(text)

    def longest_copy(self, texts: list[str]) -> str:
        """Return the longest run of symbols that one of the texts has in common with this one.

        Whether there is one of a length is asked by comparing hashes of all runs of that length;
        what they find is compared symbol by symbol.
        """
        theirs, found = [_Runs(text) for text in texts], ""
        low, high = 0, min(len(self.text), max(map(len, texts)))
        while low < high:
            length = (low + high + 1) // 2
            run = self._common(theirs, length)
            if run:
                low, found = length, run
            else:
                high = length - 1
        return found

    def _common(self, texts: list["_Runs"], length: int) -> str:
        hashes = [each.hashes(length) for each in texts]
        ours, all_theirs = self._runs.hashes(length), np.concatenate(hashes)
        # Most runs are not in question, which a table of their last bits tells at once: comparing
        # all of them took ten times as long.
        table = np.zeros(2**BITS, np.bool_)
        mask = np.uint64(2**BITS - 1)
        table[all_theirs & mask] = True
        ours = ours[table[ours & mask]]
        for each, theirs in zip(texts, hashes, strict=True):
            for start in np.flatnonzero(np.isin(theirs, ours)):
                run = each.text[start : start + length]
                if run in self.text:
                    return run
        return ""


class _Runs:
    """Hashes of the runs of a text.

    Args:
        text: the text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        symbols = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
        weighted = (symbols + np.uint64(1)) * _powers(BASE, len(text))
        self._sums = np.concatenate([np.zeros(1, np.uint64), weighted.cumsum(dtype=np.uint64)])
        self._back = _powers(pow(BASE, -1, 2**64), len(text))

    def hashes(self, length: int) -> NDArray[np.uint64]:
        """Return a hash of each run of so many symbols, wherever it stands; none if too short."""
        runs = self._sums[length:] - self._sums[: max(0, len(self._sums) - length)]
        hashes: NDArray[np.uint64] = runs * self._back[: len(runs)]
        return hashes ^ (hashes >> np.uint64(32))  # the last bits alone repeat too soon


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """Return base^0, base^1, ... modulo 2^64, (count,)."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of counted things, with what chance may make of it.

    Attributes:
        value: in [0, 1].
        error: standard error over the texts.
    """

    value: float
    error: float


def share(counts: list[tuple[int, int]]) -> Share | None:
    """Return the share over several texts; None where there is nothing to count.

    The error is that of a ratio of sums, texts being drawn independently of each other.
    """
    part, whole = np.array(counts, np.float64).reshape(-1, 2).T
    if not whole.sum():
        return None
    value = part.sum() / whole.sum()
    off, n = part - value * whole, len(whole)
    spread = math.sqrt((off**2).sum() * n / max(n - 1, 1))
    return Share(value=float(value), error=float(spread / whole.sum()))


def differ(first: Share, second: Share) -> bool:
    """Tell whether two shares differ by more than twice what chance makes of their difference."""
    return abs(first.value - second.value) > 2 * math.hypot(first.error, second.error)


@dataclass(frozen=True, kw_only=True)
class TextMeasures:
    """What a set of texts of equal length is like.

    Attributes:
        words: share of the words that occur in the text trained on.
        repeats: share of the runs of four words that stood in the same text before.
        closed: share of the opened quotation marks and brackets that were closed.
        copy: the longest run of symbols that stands in the text trained on.
    """

    words: Share | None
    repeats: Share | None
    closed: Share | None
    copy: str


def measure_texts(texts: list[str], source: Source, lexicon: set[str]) -> TextMeasures:
    """Measure texts against what was trained on."""
    return TextMeasures(
        words=share([known_words(text, lexicon) for text in texts]),
        repeats=share([repeated_ngrams(text) for text in texts]),
        closed=share([closed_marks(text) for text in texts]),
        copy=source.longest_copy(texts),
    )
