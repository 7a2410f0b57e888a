"""Token ids of long texts, kept in files under the user's cache and mapped into memory.

    KEY.ids    the ids, raw, in the machine's order of bytes
    KEY.json   the vocabulary, the type of the ids, how many there are, notes, where files begin

The key is a digest of the text's sha256, of all that decides how bytes become ids, and of the
format's version; a file appears under its name when it is whole.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from training.data.corpus.symbols import Draft, Symbols
from training.data.decoding.decode import Rules
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

    def get(self, sha256: str, rules: Rules, encode: Callable[[], Draft]) -> Symbols:
        """Return the ids of a text: mapped from a file if they are kept, else made and kept.

        Args:
            sha256: of the text's bytes.
            rules: how they become text.
            encode: begins to make the ids.

        Returns:
            The ids; a last note says where they are kept now, or why they cannot be.
        """
        facts = {"version": VERSION, "order": sys.byteorder, "sha256": sha256, **asdict(rules)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        file = self._folder / f"{key[:32]}.ids"
        kept = _read(file)
        if kept is not None:
            return kept
        draft = encode()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(draft, file)
        except OSError as error:
            note = f"its symbols cannot be kept in {self._folder}: {error.strerror}"
            made = encode().symbols()
            return replace(made, notes=(*made.notes, note))
        written = _read(file)
        if written is None:  # the folder was emptied meanwhile
            return encode().symbols()
        return replace(written, notes=(*written.notes, f"its symbols are kept in {file}"))


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
        documents=tuple(told["documents"]),
    )


def _write(draft: Draft, file: Path) -> None:
    told = {
        "dtype": draft.dtype.name,
        "count": draft.count,
        "symbols": draft.vocabulary.symbols,
        "start_symbol": draft.vocabulary.start_symbol,
        "form": asdict(draft.vocabulary.form),
        "notes": draft.notes,
        "documents": draft.documents,
    }
    with NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as ids:
        part = Path(ids.name)
        try:
            for piece in draft.pieces:
                ids.write(piece.tobytes())
            ids.flush()
            os.fsync(ids.fileno())  # a power cut must not leave a file of the right size
            description = part.with_suffix(".json")
            description.write_text(json.dumps(told), "utf-8")
            part.replace(file)
            description.replace(file.with_suffix(".json"))
        finally:
            part.unlink(missing_ok=True)
