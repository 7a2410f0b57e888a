"""Corpora: a name or a path becomes a text."""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from platformdirs import user_cache_path

from training.data.corpus.cache import WORTH_KEEPING, SymbolsCache
from training.data.corpus.download import SOURCES, Source, fetch
from training.data.corpus.files import find_files, is_pattern, read_chunks, sha256_of
from training.data.corpus.symbols import Draft, Symbols, encode
from training.data.decoding.decode import Rules
from training.settings import corpus_name
from unroll.bundle.vocabulary import NAMED_AT_MOST, Vocabulary
from unroll.errors import CorpusError, SettingsError, nearest

DEFAULT = Rules()
BUNDLED = Path(__file__).parents[2] / "corpora"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text to train on."""

    name: str
    symbols: Symbols
    sha256: str
    """Of the file's bytes, unpacked, in hexadecimal; of several files, of all theirs."""

    notes: tuple[str, ...] = ()
    """What was changed between the bytes and the text, and what was kept where."""

    @classmethod
    def of(cls, *, name: str, text: str, sha256: str = "") -> "Corpus":
        """Make a corpus of a text, which stays as it is.

        Raises:
            CorpusError: it is empty.
        """
        data, rules = text.encode("utf-8"), Rules(keep_line_ends=True, nfc=False, repair=False)
        draft = encode([(name, lambda: [data])], rules, name)
        return cls(name=name, symbols=draft.symbols(), sha256=sha256)

    def __len__(self) -> int:
        return len(self.symbols.ids)

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the whole text."""
        return self.symbols.vocabulary

    def under(self, vocabulary: Vocabulary) -> "Corpus":
        """Return the same with the token ids of another vocabulary.

        Raises:
            CorpusError: it lacks symbols of the text, and has none for the unknown.
        """
        lacking = sorted({*self.vocabulary.symbols} - {*vocabulary.symbols})
        if lacking and not vocabulary.unknown_symbol:
            raise CorpusError(
                f"corpus {self.name}: {len(lacking)} of its {len(self.vocabulary)} different "
                f"symbols are not in the model's vocabulary of {len(vocabulary)}: "
                f"{lacking[:NAMED_AT_MOST]}; name a text of the model's symbols"
            )
        return replace(self, symbols=self.symbols.under(vocabulary))

    @cached_property
    def text(self) -> str:
        """The whole text; of a long one, better take parts."""
        return self.part(range(len(self)))

    def part(self, symbols: range) -> str:
        """Return a stretch of the text."""
        return self.symbols.part(symbols)


def load_corpus(
    name_or_path: str,
    rules: Rules = DEFAULT,
    *,
    corpus_dir: Path | None = None,
    cache: Path | None = None,
    sources: Mapping[str, Source] = SOURCES,
) -> Corpus:
    """Find a corpus and decode it.

    A bundled name is read from this package; another known name from `corpus_dir`, else from
    the cache, else it is downloaded there. Anything else is the path of a text file, plain or
    packed with gzip or zstd, a folder of such, a pattern, or a list of these (see find_files).

    Args:
        name_or_path: a known name, or a path.
        rules: how the file's bytes become text.
        corpus_dir: folder with NAME.txt files; the environment's CORPUS_DIR by default.
        cache: folder of downloaded texts and of the symbols of long ones; the user's by default.
        sources: where the known names lie on the web.

    Raises:
        CorpusError: it cannot be found, fetched, verified or decoded.
        SettingsError: the encoding is unknown.
    """
    if corpus_dir is None and os.environ.get("CORPUS_DIR"):
        corpus_dir = Path(os.environ["CORPUS_DIR"])
    cache = cache or user_cache_path("unroll")
    files = _find(name_or_path, corpus_dir, cache / "corpora", sources)
    try:
        sha256 = sha256_of(files)
        source = sources.get(name_or_path)
        if source is not None and sha256 != source.sha256:
            raise CorpusError(
                f"corpus {name_or_path}: {files[0]} has sha256 {sha256}, expected {source.sha256}; "
                "replace or remove that file"
            )
        symbols = _symbols(files, sha256, rules, name_or_path, cache)
    except OSError as error:
        raise CorpusError(
            f"corpus {name_or_path}: {error.filename or files[0]} cannot be read: "
            f"{error.strerror}; check its name and permissions"
        ) from error
    name = corpus_name(name_or_path)
    return Corpus(name=name, symbols=symbols, sha256=sha256, notes=symbols.notes)


def from_anywhere(name_or_path: str) -> str:
    """Return what names the same corpus in whatever folder it is asked for.

    Args:
        name_or_path: as for `load_corpus`.
    """
    if name_or_path in SOURCES or _bundled(name_or_path):
        return name_or_path
    here = Path.cwd()
    if Path(name_or_path).exists():
        return str(here / name_or_path)
    if os.pathsep in str(here):  # which parts a list
        return name_or_path
    parts = [each for each in name_or_path.split(os.pathsep) if each]
    return os.pathsep.join(
        str(Path(glob.escape(str(here)) if is_pattern(each) else here) / each) for each in parts
    )


def _bundled(name: str) -> Path | None:
    path = BUNDLED / f"{name}.txt"
    return path if name == Path(name).name and path.is_file() else None


def _symbols(files: list[Path], sha256: str, rules: Rules, name: str, cache: Path) -> Symbols:
    is_one = len(files) == 1
    sources = [(name if is_one else str(path), partial(read_chunks, path)) for path in files]

    def begin() -> Draft:
        return encode(sources, rules, name)

    if sum(path.stat().st_size for path in files) < WORTH_KEEPING:
        return begin().symbols()
    return SymbolsCache(cache / "symbols").get(sha256, rules, begin)


def load_same_corpus(name_or_path: str, rules: Rules, *, sha256: str) -> Corpus:
    """Find the text that a model was trained on.

    Args:
        name_or_path: as for `load_corpus`.
        rules: how the file's bytes become text.
        sha256: of the file that the model was trained on; empty where nobody knows.

    Raises:
        CorpusError: as `load_corpus`.
        SettingsError: it is another text.
    """
    corpus = load_corpus(name_or_path, rules)
    if sha256 and corpus.sha256 != sha256:
        raise SettingsError(
            f"corpus = {name_or_path!r}: has sha256 {corpus.sha256}, the model was trained on "
            f"{sha256}; name that text with --corpus"
        )
    return corpus


def _find(
    name: str, corpus_dir: Path | None, cache: Path, sources: Mapping[str, Source]
) -> list[Path]:
    if bundled := _bundled(name):
        return [bundled]
    if name in sources:
        given = corpus_dir / f"{name}.txt" if corpus_dir else None
        if given is not None and given.is_file():
            return [given]
        return [fetch(name, sources[name], cache)]
    files = find_files(name)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        known = sorted([*sources, *(file.stem for file in BUNDLED.glob("*.txt"))])
        advice, names = nearest(str(missing), known), ", ".join(known)
        raise CorpusError(
            f"corpus {str(missing)!r}: neither a file nor a known name; {advice}"
            + ("" if names in advice else f" (all: {names})")
        )
    return files
