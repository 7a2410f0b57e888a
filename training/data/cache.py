"""Token ids of long texts, kept in files under the user's cache and mapped into memory.

    KEY.ids    the ids, raw, in the machine's order of bytes
    KEY.json   the vocabulary, the type of the ids, how many there are, notes

The key is a digest of the text's sha256, of all that decides how bytes become ids, and of the
format's version; a file appears under its name when it is whole.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import mkstemp

import numpy as np

from training.data.decoding import Rules
from training.data.symbols import Allocate, Ids, Symbols
from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary

VERSION = 1
WORTH_KEEPING = 2**24  # bytes of a text; shorter ones are decoded in a second


class SymbolsCache:
    """A folder of token ids.

    Args:
        folder: is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(
        self, sha256: str, rules: Rules, encode: Callable[[Allocate], Symbols]
    ) -> tuple[Symbols, str]:
        """Return the ids of a text: mapped from a file if they are kept, else made and kept.

        Args:
            sha256: of the text's bytes.
            rules: how they become text.
            encode: makes the ids, in an array that it is given.

        Returns:
            The ids, and a note of what was done, which is empty if they were kept before.
        """
        facts = {"version": VERSION, "order": sys.byteorder, "sha256": sha256, **asdict(rules)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        file = self._folder / f"{key[:32]}.ids"
        kept = _read(file)
        if kept is not None:
            return kept, ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, draft = mkstemp(dir=self._folder, suffix=".part")
        except OSError as error:
            reason = f"its symbols cannot be kept in {self._folder}: {error.strerror}"
            return encode(np.empty), f"{reason}; it is decoded anew each time"
        os.close(handle)
        try:
            symbols = encode(lambda count, dtype: _mapped(Path(draft), count, dtype))
            _write(symbols, Path(draft), file)
        finally:
            Path(draft).unlink(missing_ok=True)
        return symbols, f"its symbols are kept in {file}, for the next time"


def _mapped(file: Path, count: int, dtype: np.dtype[np.integer]) -> Ids:
    with file.open("r+b") as opened:  # a full disk is noticed here, not in the mapped memory
        os.posix_fallocate(opened.fileno(), 0, count * dtype.itemsize)
    return np.memmap(file, dtype, "r+", shape=(count,))


def _read(file: Path) -> Symbols | None:
    """Return what is kept; None where nothing is, or not the whole of it."""
    try:
        told = json.loads(file.with_suffix(".json").read_text("utf-8"))
        size = file.stat().st_size
    except (OSError, ValueError):
        return None
    dtype = np.dtype(told["dtype"])
    if size != told["count"] * dtype.itemsize:
        return None
    return Symbols(
        ids=np.memmap(file, dtype, "c"),  # private to this process, so that torch may have it
        vocabulary=Vocabulary(told["symbols"], told["start_symbol"], TextForm(**told["form"])),
        notes=tuple(told["notes"]),
    )


def _write(symbols: Symbols, draft: Path, file: Path) -> None:
    ids, vocabulary = symbols.ids, symbols.vocabulary
    told = {
        "dtype": ids.dtype.name,
        "count": len(ids),
        "symbols": vocabulary.symbols,
        "start_symbol": vocabulary.start_symbol,
        "form": asdict(vocabulary.form),
        "notes": symbols.notes,
    }
    if isinstance(ids, np.memmap):
        ids.flush()  # also to the disk: a power cut must not leave a file of the right size
    description = draft.with_suffix(".json")
    description.write_text(json.dumps(told), "utf-8")
    draft.replace(file)
    description.replace(file.with_suffix(".json"))
