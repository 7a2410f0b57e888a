"""Bytes to text: a stated encoding, and repair of what is known to go wrong with it."""

import codecs

import ftfy

from unroll.errors import CorpusError, SettingsError

WORTH_TRYING = ("utf-8", "cp1252", "cp1251", "shift_jis", "euc-kr", "gb18030", "big5", "latin-1")
BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decode_text(data: bytes, encoding: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Decode a text file's bytes.

    A byte-order mark is dropped, line ends become newlines, and text that was encoded as UTF-8
    twice is repaired.

    Args:
        data: the file's bytes.
        encoding: any that Python knows.
        name: what to call the text in an error.

    Returns:
        The text, and a note for each thing that was changed.

    Raises:
        SettingsError: the encoding is unknown.
        CorpusError: some bytes are none in that encoding.
    """
    text = _decode(data, encoding, name)
    notes = []
    if text.startswith("\ufeff"):
        text = text[1:]
        notes.append("dropped the byte-order mark")
    if "\r" in text:
        count = text.count("\r")
        notes.append(f"turned {count:,} carriage returns into newlines")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    repaired = ftfy.fix_encoding(text)
    if repaired != text:
        notes.append(
            f"repaired text that was encoded twice: {len(text):,} characters, "
            f"{len(set(text))} unique, became {len(repaired):,}, {len(set(repaired))} unique"
        )
    return repaired, tuple(notes)


def _decode(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise SettingsError(
            f"encoding = {encoding!r}: Python knows no such encoding; try utf-8 or cp1252"
        ) from error
    except UnicodeDecodeError as error:
        found = " ".join(f"{byte:02x}" for byte in data[error.start : error.start + 4])
        raise CorpusError(
            f"corpus {name}: bytes {found} at offset {error.start} are not {encoding}; "
            f"--encoding worth trying: {', '.join(_fitting(data, encoding))}"
        ) from error


def _fitting(data: bytes, refused: str) -> list[str]:
    marked = [encoding for bom, encoding in BOMS.items() if data.startswith(bom)]
    return marked or [
        encoding for encoding in WORTH_TRYING if encoding != refused and _decodes(data, encoding)
    ]


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
