"""Whether a text was read in an encoding that it is not in: one byte a symbol fits any bytes."""

import codecs
import unicodedata
from itertools import pairwise

from training.data.decoding.encodings import SAMPLE, fitting, plausibility
from unroll.errors import shown

ACCENTED_AT_MOST = 0.5  # of all letters; Vietnamese, which has the most, has 0.3
FEWEST = 10  # letters, controls or words; fewer say nothing
LIKELY_AT_LEAST = 0.75  # plausibility; of a text in its own encoding it is mostly above 0.85
SHOWN = 24  # symbols


def doubt(text: str, encoding: str) -> str:
    """Return what is unusual about a text, and which encodings are worth trying; empty for nothing.

    Args:
        text: its beginning, as it was read.
        encoding: in which it was read; UTF-8, UTF-16 and UTF-32 tell themselves what is wrong.
    """
    if codecs.lookup(encoding).name.startswith("utf"):
        return ""
    found = _unusual(text[:SAMPLE])
    if not found:
        return ""
    data = text[:SAMPLE].encode(encoding, "ignore")
    read = {name: data.decode(name, "ignore") for name in fitting(data, encoding)}
    likely = [name for name, other in read.items() if plausibility(other) >= LIKELY_AT_LEAST]
    advice = f"--encoding worth trying: {', '.join(likely)}" if likely else "check --encoding"
    return f"read as {encoding}, {found}: {shown(text.strip()[:SHOWN])}; {advice}"


def _unusual(text: str) -> str:
    controls = sum("\x80" <= symbol <= "\x9f" for symbol in text)
    if controls >= FEWEST:
        return f"it has {controls:,} control characters (U+0080 to U+009F)"
    letters = [symbol for symbol in text if symbol.isalpha()]
    accented = sum(not letter.isascii() and _is_latin(letter) for letter in letters)
    if accented >= FEWEST and accented > ACCENTED_AT_MOST * len(letters):
        return f"{accented / len(letters):.0%} of its letters are accented Latin ones"
    beyond = [pair for pair in pairwise(text) if not (pair[0].isascii() or pair[1].isascii())]
    inverted = sum(one.islower() and other.isupper() for one, other in beyond)
    usual = sum(one.isupper() and other.islower() for one, other in beyond)
    if inverted >= FEWEST and inverted > usual:
        return "its words begin with a small letter and go on in capitals"
    return ""


def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN")
