"""Measures of a written text: its words, its repetitions, its marks, what it has copied."""

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
NGRAM = 4  # words
PAIRS = {"“": "”", "(": ")", "[": "]"}
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64


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
        self._sums = _sums(text)

    def longest_copy(self, text: str) -> str:
        """Return the longest run of symbols that a text has in common with this one; the first.

        Whether there is one of a length is asked by comparing hashes of all runs of that length;
        what they find is compared symbol by symbol.
        """
        sums, found = _sums(text), ""
        low, high = 0, min(len(text), len(self.text))
        while low < high:
            length = (low + high + 1) // 2
            run = self._common(text, sums, length)
            if run:
                low, found = length, run
            else:
                high = length - 1
        return found

    def _common(self, text: str, sums: NDArray[np.uint64], length: int) -> str:
        ours, theirs = _hashes(self._sums, length), _hashes(sums, length)
        for start in np.flatnonzero(np.isin(theirs, ours)):
            run = text[start : start + length]
            if run in self.text:
                return run
        return ""


def _sums(text: str) -> NDArray[np.uint64]:
    """Return the sums of symbol i times BASE^i over the first 0, 1, ... symbols, modulo 2^64."""
    symbols = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    powers = _powers(len(symbols))
    sums: NDArray[np.uint64] = np.concatenate(
        [np.zeros(1, np.uint64), np.cumsum((symbols + np.uint64(1)) * powers, dtype=np.uint64)]
    )
    return sums


def _powers(count: int, base: int = int(BASE)) -> NDArray[np.uint64]:
    return np.cumprod(np.full(max(count, 1), base, np.uint64))[:count]


def _hashes(sums: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Return a hash of each run of so many symbols that does not depend on where it stands."""
    runs = sums[length:] - sums[:-length]
    hashes: NDArray[np.uint64] = runs * _powers(len(runs), pow(int(BASE), -1, 2**64))
    return hashes


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of counted things, with what chance may make of it.

    Attributes:
        value: in [0, 1].
        error: standard error over the texts.
        count: of how many things.
    """

    value: float
    error: float
    count: int


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
    return Share(value=float(value), error=float(spread / whole.sum()), count=int(whole.sum()))


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
    copies = [source.longest_copy(text) for text in texts]
    return TextMeasures(
        words=share([known_words(text, lexicon) for text in texts]),
        repeats=share([repeated_ngrams(text) for text in texts]),
        closed=share([closed_marks(text) for text in texts]),
        copy=max(copies, key=len),
    )
