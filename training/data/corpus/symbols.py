"""A text as the token ids of its symbols, in the fewest bytes, read in pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.decoding.decode import Files, Rules, decode
from unroll.bundle.form import AS_IT_IS
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError

CODE_POINTS = 0x110000
AT_ONCE = 2**22  # symbols

Ids = NDArray[np.integer]
"""Token ids in the smallest type that torch can index and that holds the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Symbols:
    """A text.

    Attributes:
        ids: of its symbols, (symbols,); may lie in a file.
        vocabulary: of its symbols.
        notes: what was changed between the bytes and the text.
        documents: where each file begins, from 0.
    """

    ids: Ids
    vocabulary: Vocabulary
    notes: tuple[str, ...] = ()
    documents: tuple[int, ...] = (0,)

    def part(self, symbols: range) -> str:
        """Return a stretch of the text."""
        return self.vocabulary.text_of(self.ids[symbols.start : symbols.stop])

    def under(self, vocabulary: Vocabulary) -> "Symbols":
        """Return the same with the token ids of another vocabulary.

        That has all its symbols, or one for the unknown.
        """
        if vocabulary.symbols == self.vocabulary.symbols:
            return replace(self, vocabulary=vocabulary)
        plain = vocabulary.with_form(AS_IT_IS)  # joins no two symbols
        dtype = smallest_type(len(vocabulary))
        table = plain.encode(self.vocabulary.symbols).astype(dtype)
        ids = np.empty(len(self.ids), dtype)
        for piece in in_pieces(len(ids)):
            ids[piece] = table[self.ids[piece]]
        return replace(self, ids=ids, vocabulary=vocabulary)

    def counts(self, end: int) -> NDArray[np.int64]:
        """Count how often each token id is among the first `end` symbols, (V,)."""
        V, counts = len(self.vocabulary), np.zeros(len(self.vocabulary), np.int64)
        for piece in in_pieces(end):
            counts += np.bincount(self.ids[piece], minlength=V)
        return counts


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A text whose ids are made as they are asked for.

    Attributes:
        pieces: the ids, piece by piece; may be read once.
        count: how many there are.
        vocabulary: of the whole text.
        notes: what was changed between the bytes and the text.
        documents: where each file begins, from 0.
    """

    pieces: Iterator[Ids]
    count: int
    vocabulary: Vocabulary
    notes: tuple[str, ...]
    documents: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The type of the ids."""
        return smallest_type(len(self.vocabulary))

    def symbols(self) -> Symbols:
        """Make all of them, in memory."""
        ids, done = np.empty(self.count, self.dtype), 0
        for piece in self.pieces:
            ids[done : done + len(piece)] = piece
            done += len(piece)
        return Symbols(
            ids=ids, vocabulary=self.vocabulary, notes=self.notes, documents=self.documents
        )


def encode(files: Files, rules: Rules, name: str) -> Draft:
    """Decode text files and translate them into token ids.

    Args:
        files: are read two or three times.
        rules: how they become text.
        name: what to call the text in an error.

    Raises:
        SettingsError: the encoding is unknown.
        CorpusError: some bytes are none in that encoding, or there is no symbol.
    """
    pieces, facts = decode(files, rules)
    symbols, count = _survey(pieces, name)
    vocabulary = Vocabulary.of(symbols, facts.form(rules))
    return Draft(
        pieces=_ids(vocabulary, decode(files, rules)[0]),
        count=count,
        vocabulary=vocabulary,
        notes=facts.notes(rules),
        documents=tuple(sorted(set(facts.documents) - {count} | {0})),
    )


def in_pieces(count: int) -> Iterator[slice]:
    """Yield the places of so many ids, in pieces; to index by ids takes 8 bytes for each."""
    for first in range(0, count, AT_ONCE):
        yield slice(first, min(first + AT_ONCE, count))


def smallest_type(vocabulary_size: int) -> np.dtype[np.integer]:
    """Return the type of the fewest bytes that holds all ids."""
    if vocabulary_size <= 2**8:
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if vocabulary_size <= 2**15 else np.int32)


def _survey(pieces: Iterable[str], name: str) -> tuple[str, int]:
    """Return the different symbols of a text, sorted, and how many it has in all."""
    seen, count = np.zeros(CODE_POINTS, bool), 0
    for points in _code_points(pieces):
        seen[points] = True
        count += len(points)
    if not count:
        raise CorpusError(f"corpus {name}: the text is empty; take one with symbols in it")
    return "".join(map(chr, np.flatnonzero(seen))), count


def _ids(vocabulary: Vocabulary, pieces: Iterable[str]) -> Iterator[Ids]:
    table = np.zeros(max(map(ord, vocabulary.symbols)) + 1, smallest_type(len(vocabulary)))
    table[[ord(symbol) for symbol in vocabulary.symbols]] = np.arange(len(vocabulary))
    for points in _code_points(pieces):
        yield table[points]


def _code_points(pieces: Iterable[str]) -> Iterator[NDArray[np.unsignedinteger]]:
    for piece in pieces:
        if piece.isascii():
            yield np.frombuffer(piece.encode("ascii"), np.uint8)
        else:
            yield np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), "<u4")
