"""What bytes that are not the stated encoding's might be: advice for an error."""

import codecs
import unicodedata
from functools import lru_cache
from itertools import pairwise

# Those that hold one script come before those that take most bytes for something.
WORTH_TRYING = (
    "utf-8", "euc-kr", "shift_jis", "euc-jp", "big5", "gb18030", "cp1252", "cp1250", "cp1251",
    "koi8-r", "cp1253", "cp1255", "cp1256", "latin-1",
)  # fmt: skip
NAMED_AT_MOST = 4
SAMPLE = 2**16  # bytes
BOMS = {  # the longer ones first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
PACKED = {
    b"\x1f\x8b": "packed with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"PK\x03\x04": "a zip archive (or an office document)",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}
NOT_OF_TEXT = {"Cc", "Cn", "Co"}  # categories: controls, not assigned, private use
ODD_AT_MOST = 0.05  # share of them; of random bytes as UTF-16 a tenth, in one-byte symbols more
NULS_OF_TEXT = 0.1  # share; a text in one-byte symbols has none, one in UTF-16 half
# A text in UTF-16 that is not Latin has NULs in its spaces and newlines alone, all at even places
# or all at odd ones.
FEWEST_NULS, NULS_OF_SPACES, OF_ONE_SIDE = 8, 0.002, 0.9


def packed(data: bytes) -> str | None:
    """Return what a file's first bytes say that it is, if that is no text."""
    return next((what for magic, what in PACKED.items() if data.startswith(magic)), None)


def wide_encoding(data: bytes) -> str | None:
    """Return the encoding of two or four bytes a symbol that bytes with many NULs are in."""
    data = data[:SAMPLE]
    count, even = data.count(0), data[::2].count(0)
    is_one_sided = max(even, count - even) > OF_ONE_SIDE * count
    of_spaces = count >= FEWEST_NULS and count > NULS_OF_SPACES * len(data) and is_one_sided
    if count <= NULS_OF_TEXT * len(data) and not of_spaces:
        return None
    nuls = [data[place::4].count(0) * 4 / len(data) for place in range(4)]
    if min(nuls[2:]) > 0.9 or min(nuls[:2]) > 0.9:
        return "utf-32-le" if nuls[3] > nuls[0] else "utf-32-be"
    return "utf-16-le" if nuls[1] + nuls[3] > nuls[0] + nuls[2] else "utf-16-be"


def is_text(data: bytes, encoding: str) -> bool:
    """Whether bytes have few control characters and symbols that do not exist."""
    text = data[:SAMPLE].decode(encoding, "ignore")
    odd = sum(unicodedata.category(s) in NOT_OF_TEXT and not s.isspace() for s in text)
    return odd <= ODD_AT_MOST * len(text)


def fitting(data: bytes, refused: str) -> list[str]:
    """Return the encodings that bytes may be in, the likeliest first.

    Args:
        data: from the file's beginning, or from where it went wrong.
        refused: what they are not.
    """
    marked = [encoding for bom, encoding in BOMS.items() if data.startswith(bom)]
    if marked:
        return marked[:1]
    wide = wide_encoding(data)
    if wide:
        return [wide]
    decoded = {name: _decoded(data[:SAMPLE], name) for name in WORTH_TRYING if name != refused}
    scores = {name: plausibility(text) for name, text in decoded.items() if text is not None}
    # What is no UTF-8 seldom looks like it.
    return sorted(scores, key=lambda name: (name != "utf-8", -scores[name]))[:NAMED_AT_MOST]


def _decoded(data: bytes, encoding: str) -> str | None:
    try:  # a symbol that the sample's end cuts is none that is wrong
        return codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return None


def plausibility(text: str) -> float:
    """Return the share of neighbours, one of them beyond ASCII, that stand together in a word."""
    pairs = [pair for pair in pairwise(text) if not "".join(pair).isascii()]
    return sum(_go_together(*pair) for pair in pairs) / max(1, len(pairs))


def _go_together(one: str, other: str) -> bool:
    if not (one.isalpha() and other.isalpha()):
        symbol = one if not one.isascii() else other
        return symbol.isalpha() or unicodedata.category(symbol)[0] == "P"
    beyond = not one.isascii() and not other.isascii()
    if beyond and _script(one) == "LATIN":  # accented letters seldom follow each other
        return False
    script = _script(one)
    return script == _script(other) != "HALFWIDTH" and not other.isupper()


@lru_cache(maxsize=10_000)
def _script(letter: str) -> str:
    script = unicodedata.name(letter, "?").partition(" ")[0]
    return "CJK" if script in {"HIRAGANA", "KATAKANA"} else script
