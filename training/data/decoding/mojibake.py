"""Text that was encoded as UTF-8, read as cp1252 or latin-1, and encoded again.

An é has then become Ã©. Correct text hardly holds such a sequence, but ftfy, which repairs more
than these, also takes a few correct ones for wrong (a lone Â becomes a no-break space). So it is
asked only where nearly all symbols beyond ASCII are of such sequences.
"""

import re
from collections import Counter
from functools import cache

import numpy as np
from numpy.typing import NDArray

EXPLAINED_AT_LEAST = 0.9  # of the symbols beyond ASCII
SHOWN_AT_MOST = 3
WIDE = "sloppy-windows-1252"  # of ftfy: cp1252, and latin-1 where that has no symbol


@cache
def _patterns() -> tuple[re.Pattern[str], NDArray[np.bool_]]:
    """Return what such a sequence is, and which code points follow its first, the last one: none.

    Most texts are ASCII and need no ftfy, which takes a quarter of a second to import.
    """
    import ftfy.bad_codecs  # gives WIDE to all

    ftfy.bad_codecs.ok()
    symbols = {bytes([b]).decode(e) for b in range(0x80, 0xC0) for e in (WIDE, "latin-1")}
    rest = f"[{''.join(map(re.escape, sorted(symbols)))}]"
    sequence = re.compile(f"[\xc2-\xdf]{rest}|[\xe0-\xef]{rest}{{2}}|[\xf0-\xf4]{rest}{{3}}")
    follows = np.zeros(max(map(ord, symbols)) + 2, bool)
    follows[[ord(symbol) for symbol in symbols]] = True
    return sequence, follows


class Evidence:
    """What speaks for and against a text's having been encoded twice.

    Attributes:
        beyond: number of symbols beyond ASCII.
        found: how often each sequence was found that is UTF-8 when read as bytes.
    """

    def __init__(self) -> None:
        self.beyond = 0
        self.found: Counter[str] = Counter()

    def add(self, piece: str) -> None:
        """Look at a piece of the text."""
        if piece.isascii():
            return
        points = np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), "<u4")
        self.beyond += int(np.count_nonzero(points > 0x7F))
        leads = np.flatnonzero((points[:-1] >= 0xC2) & (points[:-1] <= 0xF4))
        sequence, follows = _patterns()
        follow = follows[np.minimum(points[leads + 1], len(follows) - 1)]
        for place in leads[follow].tolist():
            match = sequence.match(piece, place)
            if match is not None and _meant(match.group()) is not None:
                self.found[match.group()] += 1

    @property
    def is_strong(self) -> bool:
        """Whether nearly all symbols beyond ASCII are of such sequences."""
        explained = sum(len(sequence) * count for sequence, count in self.found.items())
        return explained > 0 and explained >= EXPLAINED_AT_LEAST * self.beyond

    def examples(self) -> str:
        """Show the most frequent sequences, and what they would become."""
        return ", ".join(
            f"{sequence!r} to {_meant(sequence)!r} ({count:,} times)"
            for sequence, count in self.found.most_common(SHOWN_AT_MOST)
        )


def repair(text: str) -> str:
    """Return a text as it was before it was encoded a second time."""
    import ftfy

    return ftfy.fix_encoding(text)


def _meant(sequence: str) -> str | None:
    """Return the symbol that a sequence was, or None."""
    for encoding in (WIDE, "latin-1"):
        try:
            return sequence.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return None
