"""Bytes to text: a stated encoding, and what is changed on the way, each told in a note."""

import codecs
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from training.data.decoding.doubt import doubt
from training.data.decoding.encodings import SAMPLE, fitting, is_text, packed, wide_encoding
from training.data.decoding.mojibake import Evidence, repair
from training.settings import TrainingSettings
from unroll.bundle.form import TextForm
from unroll.errors import CorpusError, SettingsError, counted

Chunks = Callable[[], Iterable[bytes]]
"""A file's bytes in pieces of any size; may be asked for again."""
Files = Sequence[tuple[str, Chunks]]
"""What to call each file in an error, and its bytes."""

LOOKED_BACK, HELD_AT_MOST = 2**10, 2**26  # symbols


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How bytes become text: the settings of a training that say so, under their names there."""

    encoding: str = "utf-8"
    bad_bytes: Literal["refuse", "replace"] = "refuse"
    keep_line_ends: bool = False
    nfc: bool = True
    repair: bool | None = True

    @classmethod
    def of(cls, settings: TrainingSettings) -> "Rules":
        """Return a training's rules."""
        return cls(
            encoding=settings.encoding,
            bad_bytes=settings.bad_bytes,
            keep_line_ends=settings.keep_line_ends,
            nfc=settings.nfc,
            repair=settings.repair,
        )


@dataclass
class Facts:
    """What was found in a text while it was decoded, and changed."""

    bom: bool = False
    line_ends: int = 0
    replaced: int = 0
    is_nfc: bool = True
    repaired: int = 0
    newlines: int = 0
    documents: list[int] = field(default_factory=list)
    doubt: str = ""
    evidence: Evidence = field(default_factory=Evidence)

    def notes(self, rules: Rules) -> tuple[str, ...]:
        """Say what was changed, and what was left that one might want to be changed."""
        told = [self.doubt] if self.doubt else []
        if self.bom:
            told.append("dropped the byte-order mark")
        if self.replaced:
            told.append(
                f"{self.replaced:,} symbols are U+FFFD, which bytes that are not {rules.encoding} "
                "become"
            )
        if self.line_ends:
            told.append(
                f"turned {self.line_ends:,} carriage returns into newlines; --keep-line-ends keeps "
                "them"
            )
        if len(self.documents) > 1:
            told.append(
                f"{len(self.documents):,} files"
                + f", {self.newlines:,} newlines put between them" * (self.newlines > 0)
            )
        if self.repaired:
            told.append(
                f"repaired text that was encoded twice: {self.evidence.examples() or 'by ftfy'}; "
                "--no-repair leaves it as it is"
            )
        elif self.evidence.found and not self.doubt:
            told.append(
                "left alone what looks as if it was encoded twice, since most of the text is not: "
                f"{self.evidence.examples()}"
            )
        return tuple(told)

    def form(self, rules: Rules) -> TextForm:
        """Return the form that this text has, and texts to be read with it shall have."""
        return TextForm(
            line_ends="any" if rules.keep_line_ends else "newline",
            unicode="nfc" if rules.nfc and self.is_nfc else "any",
        )


def decode(files: Files, rules: Rules) -> tuple[Iterator[str], Facts]:
    """Decode text files into one text.

    A byte-order mark is dropped, line ends become newlines, and text that was encoded as UTF-8
    twice is repaired; a piece of the result ends at a line's end where it has one. A file that is
    followed by another ends with a newline.

    Args:
        files: are read twice where they may need repair.
        rules: how.

    Returns:
        The pieces, and what was found, which is complete when they have been read.

    Raises:
        SettingsError: the encoding is unknown.
        CorpusError: some bytes are none in that encoding, or it is no text at all.
    """
    survey = Facts()
    if rules.repair:
        for name, chunks in files:
            for piece in _pieces(chunks, rules, name, survey):
                survey.evidence.add(piece)
    facts = Facts(evidence=survey.evidence)
    return _joined(files, rules, facts), facts


def _joined(files: Files, rules: Rules, facts: Facts) -> Iterator[str]:
    symbols, text = 0, "\n"
    for name, chunks in files:
        if not text.endswith("\n"):
            facts.newlines += 1
            symbols += 1
            yield "\n"
        facts.documents.append(symbols)
        text = "\n"
        for text in _finished(chunks, rules, name, facts):
            symbols += len(text)
            yield text


def _finished(chunks: Chunks, rules: Rules, name: str, facts: Facts) -> Iterator[str]:
    wants_repair = rules.repair is None or facts.evidence.is_strong
    for piece in _pieces(chunks, rules, name, facts):
        text = repair(piece) if wants_repair else piece
        facts.repaired += text != piece
        facts.is_nfc = facts.is_nfc and unicodedata.is_normalized("NFC", text)
        yield text


def _pieces(chunks: Chunks, rules: Rules, name: str, facts: Facts) -> Iterator[str]:
    """Decode bytes, with line ends turned, into pieces that end with a line where they can."""
    held, begun = "", False
    for decoded in _decoded(chunks(), rules, name):
        held += decoded
        if held and not begun:
            begun, facts.bom = True, facts.bom or held.startswith("\ufeff")
            facts.doubt = facts.doubt or doubt(held, rules.encoding)
            held = held.removeprefix("\ufeff")
        cut = _end_of_line(held)
        yield from _turned(held[:cut], rules, facts)
        held = held[cut:]
    yield from _turned(held, rules, facts)


def _end_of_line(text: str) -> int:
    """Return where to cut a text, so that nothing that belongs together is cut.

    A very long line is cut after a symbol of ASCII, but for a carriage return, whose newline may
    follow: no symbol that was encoded twice has one of these.
    """
    lines = text.rfind("\n") + 1
    if lines or len(text) < HELD_AT_MOST:
        return lines
    places = range(len(text), len(text) - LOOKED_BACK, -1)
    of_ascii = (end for end in places if text[end - 1].isascii() and text[end - 1] != "\r")
    return next(of_ascii, len(text))


def _turned(text: str, rules: Rules, facts: Facts) -> Iterator[str]:
    if rules.bad_bytes == "replace":
        facts.replaced += text.count("\ufffd")
    if not rules.keep_line_ends and "\r" in text:
        facts.line_ends += text.count("\r")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text:
        yield text


def _decoded(chunks: Iterable[bytes], rules: Rules, name: str) -> Iterator[str]:
    try:
        errors = "replace" if rules.bad_bytes == "replace" else "strict"
        decoder = codecs.getincrementaldecoder(rules.encoding)(errors)
    except LookupError as error:
        raise SettingsError(
            f"encoding = {rules.encoding!r}: Python knows no such encoding; try utf-8 or cp1252"
        ) from error
    read = 0
    for chunk in chunks:
        if not read:
            _require_text(chunk, rules.encoding, name)
        try:
            yield decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise _undecodable(error, read + len(chunk), rules, name) from error
        except UnicodeError as error:  # no byte order mark, where the encoding needs one
            likely = f"--encoding worth trying: {_likely(chunk, rules.encoding, name)}"
            raise CorpusError(
                f"corpus {name}: is not {rules.encoding}: {error}; {likely}"
            ) from error
        read += len(chunk)
    try:
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _undecodable(error, read, rules, name) from error


def _require_text(data: bytes, encoding: str, name: str) -> None:
    what = packed(data)
    if what is not None:
        raise CorpusError(
            f"corpus {name}: is {what}, and no text; name the text that it holds, or leave it out"
        )
    wide = wide_encoding(data)
    if wide is not None and "16" not in encoding and "32" not in encoding:
        likely = _likely(data, encoding, name)
        raise CorpusError(
            f"corpus {name}: has many NULs, as {encoding}; --encoding worth trying: {likely}"
        )


def _likely(data: bytes, refused: str, name: str) -> str:
    """Return the encodings that bytes may be in.

    Raises:
        CorpusError: they are text in none of them.
    """
    likely = fitting(data, refused)
    if not any(is_text(data, encoding) for encoding in likely):
        nuls = data[:SAMPLE].count(0)
        what = f"{counted(nuls, 'NUL byte')} in its first {len(data[:SAMPLE]):,}"
        raise CorpusError(
            f"corpus {name}: does not look like text, with "
            f"{what if nuls else 'many control characters'}; take a text file"
        )
    return ", ".join(likely)


def _undecodable(error: UnicodeDecodeError, end: int, rules: Rules, name: str) -> CorpusError:
    """Make the error of bytes that are none in an encoding.

    Args:
        error: of a decoder that had read the file up to `end`.
        end: offset in the file.
        rules: names the encoding.
        name: of the text.
    """
    data, start = bytes(error.object), error.start
    found = " ".join(f"{byte:02x}" for byte in data[start : start + 4])
    likely = _likely(data if end == len(data) else data[start:], rules.encoding, name)
    return CorpusError(
        f"corpus {name}: bytes {found} at offset {end - len(data) + start} are not "
        f"{rules.encoding}; --encoding worth trying: {likely}; if only a few bytes are "
        "wrong, `unroll train --bad-bytes replace` puts U+FFFD in their place"
    )
