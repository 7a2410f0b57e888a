"""The vocabulary of an adopted model: from JSON, a list of symbols, or the text itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.corpus.corpus import Corpus, load_corpus
from training.data.decoding.decode import Rules
from training.data.decoding.encodings import NAMED_AT_MOST, WORTH_TRYING
from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import AdoptionError, CorpusError, shown

Symbols = str | Sequence[str] | Mapping[str, int] | Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text that a model was trained on, as Python's `open(path, encoding=encoding)` reads it.

    Attributes:
        path: of its file.
        encoding: of its file.
        corpus: its symbols.
    """

    path: Path
    encoding: str
    corpus: Corpus

    @classmethod
    def read(cls, path: Path, encoding: str) -> "Text":
        """Read a text.

        Raises:
            CorpusError: it cannot be read in that encoding, or is empty.
        """
        corpus = load_corpus(str(path), Rules(encoding=encoding, nfc=False, repair=False))
        return cls(path=path, encoding=encoding, corpus=corpus)


def read_symbols(path: Path, encoding: str = "utf-8") -> tuple[str, Text | None]:
    """Read a vocabulary.

    Args:
        path: JSON, if its name ends so: a list, or an object from symbols to ids or from ids to
            symbols. Else a text: one in which no symbol occurs twice lists them in the order of
            their ids; of any other, all its symbols are taken, sorted, as
            `sorted(set(text))` does.
        encoding: of the file.

    Returns:
        The symbols in the order of their ids, each one code point, and the text that they are of;
        None for a list.

    Raises:
        AdoptionError: it is none.
        CorpusError: it cannot be read in that encoding.
    """
    if not path.is_file():
        raise AdoptionError(f"vocabulary {path}: there is no such file; name one with --vocabulary")
    text = Text.read(path, encoding)
    if path.suffix == ".json":
        try:
            return order_symbols(json.loads(text.corpus.text)), None
        except ValueError as error:
            raise AdoptionError(
                f"vocabulary {path}: cannot be read as JSON: {error}; list symbols in the order "
                "of their ids, or name another file with --vocabulary"
            ) from error
    if len(text.corpus) == len(text.corpus.vocabulary):
        return text.corpus.text, None
    return text.corpus.vocabulary.symbols, text


def order_symbols(given: Any) -> str:
    """Return symbols in the order of their ids.

    Args:
        given: as Symbols; the ids of a mapping may be numbers in quotes, as JSON has them.

    Raises:
        AdoptionError: ids are missing or occur twice, or a symbol is not one code point.
    """
    if isinstance(given, Mapping):
        given = _by_id(given)
    if not isinstance(given, str | Sequence) or not given:
        raise AdoptionError(
            f"vocabulary: must be symbols in the order of their ids, or a mapping of symbols and "
            f"ids, got {shown(repr(given))}"
        )
    for place, symbol in enumerate(given):
        if not isinstance(symbol, str) or len(symbol) != 1:
            raise AdoptionError(
                f"vocabulary: id {place} is {shown(str(symbol))}, which is not one code point; "
                "models over words or pieces cannot be adopted. For a mark such as <pad>, put a "
                "symbol in its place that no text has, such as U+E000"
            )
    return "".join(given)


def _by_id(given: Mapping[Any, Any]) -> list[Any]:
    """Turn a mapping either way round into a list."""
    numbers = [value for value in given.values() if isinstance(value, int)]
    pairs = given.items() if len(numbers) == len(given) else [(s, i) for i, s in given.items()]
    try:
        by_id = {int(number): symbol for symbol, number in pairs}
    except (TypeError, ValueError) as error:
        raise AdoptionError(f"vocabulary: an id is not a whole number: {error}") from error
    missing = sorted(set(range(len(given))) - by_id.keys())
    if missing:
        raise AdoptionError(
            f"vocabulary: {len(given)} symbols, but id {missing[0]} is given to none; ids must run "
            f"from 0 to {len(given) - 1}, each once"
        )
    return [by_id[place] for place in range(len(given))]


def make_vocabulary(symbols: str, start_symbol: str | None) -> Vocabulary:
    """Make a vocabulary; by default its start symbol is a newline, or else its first symbol.

    Raises:
        AdoptionError: a symbol occurs twice, or the start symbol is none of them.
    """
    reads_newlines = "\n" in symbols and "\r" not in symbols
    form = TextForm(line_ends="newline" if reads_newlines else "any")
    start = start_symbol or ("\n" if "\n" in symbols else symbols[0])
    try:
        return Vocabulary(symbols, start, form)
    except ValueError as error:
        raise AdoptionError(str(error)) from error


def check_size(symbols: str, wanted: int, text: Text | None) -> None:
    """Check that a vocabulary has as many symbols as the decoder has rows.

    Raises:
        AdoptionError: it has not; of a text, names the encodings in which it would.
    """
    if len(symbols) == wanted:
        return
    advice = "list the symbols in the order of their ids, as JSON"
    if text is not None:
        others = (name for name in WORTH_TRYING if name != text.encoding)
        fitting = [name for name in others if _count(text.path, name) == wanted]
        if fitting:
            advice = f"it has {wanted} with --encoding {' or '.join(fitting[:NAMED_AT_MOST])}"
        else:
            advice += f"; no other encoding of its text gives {wanted}"
    raise AdoptionError(
        f"vocabulary: has {len(symbols)} symbols, the decoder writes {wanted}; {advice}"
    )


def _count(path: Path, encoding: str) -> int:
    try:
        return len(Text.read(path, encoding).corpus.vocabulary)
    except CorpusError:
        return 0
