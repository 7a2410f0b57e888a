"""Whose is this text? The author whose model finds it most likely."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from report.measures.surprise import surprise
from report.settings import ReportSettings, author_settings
from report.trainings import ensure_trained
from training.data.corpus.corpus import load_corpus
from training.model.model import CharRNN
from training.run.checkpoint import load_checkpoint
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError

TAIL = 0.1  # of each text is kept for passages
LENGTHS = (5, 10, 20, 50, 100, 200, 400)
PASSAGES = 100  # of each author
SHORTEST = 10_000  # symbols to train on; less is no style


@dataclass(frozen=True, kw_only=True)
class Writings:
    """What an author's model is trained on, and what it is asked about."""

    author: str
    training: str
    tail: str


def plain(text: str) -> str:
    """Take away what gives an author's file away, but not the author.

    Accents and typographic marks become plain ones, capitals small; every run of spaces and line
    breaks becomes one space, so that neither layout nor names in capitals tell.
    """
    marks = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "–": "-", "\t": " "})
    parts = unicodedata.normalize("NFKD", text.translate(marks)).lower()
    return re.sub(r"\s+", " ", "".join(s for s in parts if not unicodedata.combining(s)))


def fair(texts: dict[str, str]) -> list[Writings]:
    """Cut texts so that none has an advantage: equal lengths, and symbols that all of them have.

    Args:
        texts: by author, at least two.

    Raises:
        CorpusError: one is too short.
    """
    kept = {author: plain(text) for author, text in texts.items()}
    shared, known = set[str](), set.intersection(*map(set, kept.values()))
    while shared != known:  # what is cut off may have held the last of a rare symbol
        shared = known
        kept = {author: "".join(s for s in text if s in shared) for author, text in kept.items()}
        length = min(map(len, kept.values()))
        training = length - int(TAIL * length)
        known = set.intersection(*(set(text[:training]) for text in kept.values()))
    if training < SHORTEST:
        shortest = min(kept, key=lambda author: len(kept[author]))
        raise CorpusError(
            f"corpus {shortest}: {training:,} symbols to train its author's model on, at least "
            f"{SHORTEST:,} are needed; take a longer text"
        )
    return [
        Writings(author=author, training=text[:training], tail=text[-(length - training) :])
        for author, text in kept.items()
    ]


def passages(tail: str, symbols: int) -> list[str]:
    """Cut PASSAGES passages of so many symbols out of a text, evenly; they may overlap."""
    starts = np.linspace(0, len(tail) - symbols, PASSAGES).round().astype(int)
    return [tail[start : start + symbols] for start in starts]


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """How often the right author was named.

    Attributes:
        authors: names, A of them.
        lengths: symbols of a passage.
        accuracy: share of right answers at each length, (lengths,).
        error: its standard error, (lengths,), from as many passages as do not overlap.
        counts: true author by named author at each length, (lengths, A, A).
    """

    authors: list[str]
    lengths: list[int]
    accuracy: NDArray[np.float64]
    error: NDArray[np.float64]
    counts: NDArray[np.int64]


def judge(writings: list[Writings], readers: list[tuple[CharRNN, Vocabulary]]) -> Verdicts:
    """Judge held-out passages of all authors by their likelihood under each author's model.

    A passage of fewer symbols is the start of the longest one. Each is read after a space, from a
    zero state; the author whose model gives it the highest likelihood is named.

    Args:
        writings: of A authors.
        readers: the models trained on them, in evaluation mode, with their vocabularies.
    """
    longest = min(LENGTHS[-1], *(len(each.tail) for each in writings))
    scores = []
    for each in writings:
        texts = [f" {passage}" for passage in passages(each.tail, longest)]
        scores.append([_log_likelihoods(*reader, texts) for reader in readers])
    named = np.array(scores).argmax(1)  # (A, passages, symbols)
    A, lengths = len(writings), [length for length in LENGTHS if length <= longest]
    counts = np.array(
        [[np.bincount(row[:, length - 1], minlength=A) for row in named] for length in lengths]
    )  # (lengths, A, A)
    accuracy = counts.trace(axis1=1, axis2=2) / (A * PASSAGES)
    apart = [
        sum(min(PASSAGES, len(each.tail) // length) for each in writings) for length in lengths
    ]  # passages that do not overlap
    return Verdicts(
        authors=[each.author for each in writings],
        lengths=lengths,
        accuracy=accuracy,
        error=np.sqrt(accuracy * (1 - accuracy) / np.array(apart)),
        counts=counts,
    )


def _log_likelihoods(
    model: CharRNN, vocabulary: Vocabulary, texts: list[str]
) -> NDArray[np.float64]:
    """Return ln p of the first 1, 2, ... symbols of texts after their first one, (texts, T - 1)."""
    ids = torch.from_numpy(vocabulary.encode("".join(texts)))
    nats = surprise(model, ids, streams=len(texts), warm_up=1)
    summed: NDArray[np.float64] = -nats.cumsum(1)
    return summed


def whose_is_it(
    writings: list[Writings], settings: ReportSettings, say: Callable[[str], None]
) -> Verdicts:
    """Train a model on each author's text and let them judge held-out passages.

    Args:
        writings: of the authors.
        settings: the report's.
        say: is told what goes on.

    Raises:
        TrainingError: a training failed.
    """
    symbols = min(len(each.training) for each in writings)
    folder = settings.folder / "authors"
    folder.mkdir(exist_ok=True)
    readers = []
    for each in writings:
        name = re.sub(r"\W+", "-", each.author)
        text = folder / f"{name}.txt"
        text.write_text(each.training, encoding="utf-8", newline="\n")
        training = author_settings(name, text, settings, symbols)
        run = ensure_trained(training, load_corpus(str(text)), fresh=settings.fresh, say=say)
        checkpoint = load_checkpoint(run.best)
        readers.append((checkpoint.model(), checkpoint.vocabulary))
    return judge(writings, readers)
