"""Corpora: a name or a path becomes a text."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from training.data.decoding import Rules, decode_text
from training.data.download import SOURCES, Source, fetch
from unroll.bundle.form import AS_IT_IS, TextForm
from unroll.errors import CorpusError, SettingsError, nearest

DEFAULT = Rules()
BUNDLED = Path(__file__).parents[1] / "corpora"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text to train on."""

    name: str
    text: str
    sha256: str
    """Of the file's bytes, in hexadecimal."""

    notes: tuple[str, ...] = ()
    """What was changed between the bytes and the text."""

    form: TextForm = AS_IT_IS
    """The form of the text, and of every text to be read with it."""


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
    the cache, else it is downloaded there. Anything else is the path of a text file.

    Args:
        name_or_path: a known name, or a path.
        rules: how the file's bytes become text.
        corpus_dir: folder with NAME.txt files; the environment's CORPUS_DIR by default.
        cache: folder of downloaded texts; the user's cache by default.
        sources: where the known names lie on the web.

    Raises:
        CorpusError: it cannot be found, fetched, verified or decoded.
        SettingsError: the encoding is unknown.
    """
    if corpus_dir is None and os.environ.get("CORPUS_DIR"):
        corpus_dir = Path(os.environ["CORPUS_DIR"])
    path = _find(name_or_path, corpus_dir, cache, sources)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"corpus {path}: cannot be read: {error.strerror}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    source = sources.get(name_or_path)
    if source is not None and sha256 != source.sha256:
        raise CorpusError(
            f"corpus {name_or_path}: {path} has sha256 {sha256}, expected {source.sha256}; "
            "replace or remove that file"
        )
    text, facts = decode_text(data, rules, name_or_path)
    return Corpus(
        name=path.stem,
        text=text,
        sha256=sha256,
        notes=facts.notes(rules),
        form=facts.form(rules),
    )


def load_same_corpus(name_or_path: str, rules: Rules, *, sha256: str) -> Corpus:
    """Find the text that a model was trained on.

    Args:
        name_or_path: as for `load_corpus`.
        rules: how the file's bytes become text.
        sha256: of the file that the model was trained on.

    Raises:
        CorpusError: as `load_corpus`.
        SettingsError: it is another text.
    """
    corpus = load_corpus(name_or_path, rules)
    if corpus.sha256 != sha256:
        raise SettingsError(
            f"corpus = {name_or_path!r}: has sha256 {corpus.sha256}, the model was trained on "
            f"{sha256}; name that text with --corpus"
        )
    return corpus


def _find(
    name: str, corpus_dir: Path | None, cache: Path | None, sources: Mapping[str, Source]
) -> Path:
    bundled = BUNDLED / f"{name}.txt"
    if name == Path(name).name and bundled.is_file():
        return bundled
    if name in sources:
        given = corpus_dir / f"{name}.txt" if corpus_dir else None
        if given is not None and given.is_file():
            return given
        return fetch(name, sources[name], cache or user_cache_path("unroll") / "corpora")
    path = Path(name)
    if not path.is_file():
        if path.is_dir():
            raise CorpusError(f"corpus {name!r}: is a folder; name a text file in it")
        known = sorted([*sources, *(file.stem for file in BUNDLED.glob("*.txt"))])
        raise CorpusError(
            f"corpus {name!r}: neither a file nor a known name; {nearest(name, known)} "
            f"(all: {', '.join(known)})"
        )
    return path
