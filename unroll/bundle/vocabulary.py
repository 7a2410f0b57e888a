"""The vocabulary: symbols (Unicode code points) and their token ids."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unroll.bundle.form import AS_IT_IS, TextForm
from unroll.errors import InputError, UnknownSymbolError, shown
from unroll.terms import UnknownSymbols

NAMED_AT_MOST = 5
DECODED_AT_ONCE = 2**22  # symbols; bounds the memory


class Vocabulary:
    """An ordered set of symbols; a symbol's token id is its position.

    A symbol is one Unicode code point, so any script works; combining marks and the parts of
    a joined emoji are symbols of their own.

    Args:
        symbols: the symbols in id order, each once.
        start_symbol: the symbol that every text is read after; one of `symbols`.
        form: what every text is brought into before it is encoded.
        unknown_symbol: the last of `symbols`, if it stands for all that are not among them: it is
            read, and never drawn. Empty: there is none.

    Raises:
        ValueError: a symbol occurs twice, is not one code point, the start symbol is missing, or
            the unknown symbol is not the last one.
    """

    def __init__(
        self,
        symbols: str,
        start_symbol: str,
        form: TextForm = AS_IT_IS,
        unknown_symbol: str = "",
    ) -> None:
        if len(set(symbols)) != len(symbols):
            twice = sorted(s for s, count in Counter(symbols).items() if count > 1)
            raise ValueError(
                f"vocabulary: each symbol must occur once; repeated: {twice[:NAMED_AT_MOST]}"
            )
        if len(start_symbol) != 1 or start_symbol not in symbols:
            raise ValueError(f"vocabulary: start symbol {start_symbol!r} is not one of its symbols")
        if unknown_symbol and (symbols[-1] != unknown_symbol or unknown_symbol == start_symbol):
            raise ValueError(
                f"vocabulary: unknown symbol {unknown_symbol!r} is not its last symbol, or is "
                "where texts start"
            )
        self.symbols = symbols
        self.start_symbol = start_symbol
        self.form = form
        self.unknown_symbol = unknown_symbol
        self._id_of = {symbol: i for i, symbol in enumerate(symbols)}
        points = self._points = _code_points(symbols)
        self._ids = np.full(int(points.max()) + 2, -1, np.int64)  # by code point; the last: none
        self._ids[points] = np.arange(len(symbols))

    @classmethod
    def of(cls, text: str, form: TextForm = AS_IT_IS) -> "Vocabulary":
        """Build the vocabulary of a text: its distinct symbols, sorted by code point.

        The start symbol is a newline where the text has one, else its first sorted symbol.

        Raises:
            ValueError: the text is empty.
        """
        if not text:
            raise ValueError("vocabulary: an empty text has no symbols")
        symbols = "".join(sorted(set(text)))
        return cls(symbols, "\n" if "\n" in symbols else symbols[0], form)

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def _parts(self) -> tuple[str, str, TextForm, str]:
        return self.symbols, self.start_symbol, self.form, self.unknown_symbol

    @property
    def start_id(self) -> int:
        """Token id of the start symbol."""
        return self._id_of[self.start_symbol]

    @property
    def sampled_size(self) -> int:
        """How many symbols may be drawn: those of the ids below this."""
        return len(self.symbols) - len(self.unknown_symbol)

    def with_form(self, form: TextForm) -> "Vocabulary":
        """Return the same symbols for texts of another form."""
        return Vocabulary(self.symbols, self.start_symbol, form, self.unknown_symbol)

    @cached_property
    def symbol_bytes(self) -> int:
        """Bytes of a symbol in UTF-8, at most."""
        return len(max(self.symbols).encode())

    def encode(
        self,
        text: str,
        *,
        unknown: UnknownSymbols = UnknownSymbols.REFUSE,
        replacement: str = "",
        field: str = "text",
    ) -> NDArray[np.int64]:
        """Translate a text into token ids, shape (symbols,).

        Args:
            text: any text; it is brought into the vocabulary's form first.
            unknown: what to do with symbols outside the vocabulary. Where it has an unknown
                symbol, `REFUSE` reads them as that.
            replacement: the symbol that stands in for them under `REPLACE`.
            field: what to call the text in an error.

        Raises:
            UnknownSymbolError: under `REFUSE`, without an unknown symbol; names the first few
                symbols and their positions.
            InputError: under `REPLACE`, the replacement is not one symbol of the vocabulary.
        """
        if unknown is UnknownSymbols.REPLACE and self._id_of.get(replacement) is None:
            raise InputError(
                "replacement_symbol",
                f"must be one symbol of the model's vocabulary, got {shown(replacement)}",
            )
        if self.form.changes_texts:
            text = self.form.apply(text)
        if not text:
            return np.zeros(0, np.int64)
        ids = self._look_up(text)
        is_known = ids >= 0
        if is_known.all():
            return ids
        if unknown is UnknownSymbols.REFUSE and self.unknown_symbol:
            return np.where(is_known, ids, self._id_of[self.unknown_symbol])
        if unknown is UnknownSymbols.REFUSE:
            raise UnknownSymbolError(field, self._describe_unknown(text, is_known))
        if unknown is UnknownSymbols.SKIP:
            return ids[is_known]
        return np.where(is_known, ids, self._id_of[replacement])

    def count_unknown(self, text: str) -> int:
        """Count the symbols of a text that the vocabulary does not hold."""
        return int(np.count_nonzero(self._look_up(self.form.apply(text)) < 0))

    def decode(self, ids: Iterable[int]) -> str:
        """Translate token ids back into text.

        Raises:
            IndexError: an id is outside [0, V).
        """
        symbols, listed = self.symbols, list(ids)
        if min(listed, default=0) < 0:
            raise IndexError(f"token ids must be in [0, {len(self)}), got {min(listed)}")
        return "".join([symbols[i] for i in listed])

    def text_of(self, ids: NDArray[np.integer[Any]]) -> str:
        """Translate an array of token ids in [0, V) back into text, fast."""
        points = self._points
        return "".join(
            points[ids[first : first + DECODED_AT_ONCE]]
            .tobytes()
            .decode("utf-32-le", "surrogatepass")
            for first in range(0, len(ids), DECODED_AT_ONCE)
        )

    def read(self, field: str, ids: Sequence[object]) -> str:
        """Translate what a caller gave as token ids.

        Raises:
            InputError: one is no token id; carries the field's name.
        """
        V = len(self)
        for index, each in enumerate(ids):
            if not isinstance(each, int) or isinstance(each, bool) or not 0 <= each < V:
                raise InputError(
                    f"{field}[{index}]", f"must be a token id in [0, {V}), got {shown(each)}"
                )
        return self.decode(ids)  # type: ignore[arg-type]  # they are checked

    def _look_up(self, text: str) -> NDArray[np.int64]:
        """Return the id of each symbol; -1 where it has none."""
        return self._ids.take(_code_points(text), mode="clip")

    def _describe_unknown(self, text: str, is_known: NDArray[np.bool_]) -> str:
        found = np.flatnonzero(~is_known)
        named = ", ".join(
            f"{text[i]!r} (U+{ord(text[i]):04X}) at {i}" for i in found[:NAMED_AT_MOST]
        )
        more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
        return (
            f"{len(found)} of {len(text)} symbols are not in the model's vocabulary of "
            f"{len(self)}: {named}{more}; remove them, or set unknown_symbols to skip or replace"
        )


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
