"""The texts that a report measures on: what is trained on, what is held out, and cuts of it."""

from dataclasses import dataclass

import numpy as np

from training.data.corpus.corpus import Corpus
from training.data.prepared import prepare_data
from training.settings import TrainingSettings
from unroll.errors import CorpusError

PASSAGE = 500  # symbols of a coloured text
HELD_OUT_AT_LEAST = 4_000  # symbols


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The corpus, as all models saw it.

    Attributes:
        corpus: name and text.
        training: what they were trained on.
        held_out: what they were not trained on.
    """

    corpus: Corpus
    training: str
    held_out: str


def read_texts(corpus: Corpus, settings: TrainingSettings) -> Texts:
    """Cut the corpus as a training with these settings does.

    Raises:
        CorpusError: it is too short to hold back enough.
    """
    data = prepare_data(corpus, settings)
    kept = 0 if data.validation is None else len(data.validation)
    if kept < HELD_OUT_AT_LEAST or len(set(corpus.text[-kept:])) < 2:
        raise CorpusError(
            f"corpus {corpus.name}: {kept:,} symbols are held out, a report needs "
            f"{HELD_OUT_AT_LEAST:,} and two different ones among them; take a text of "
            f"{10 * HELD_OUT_AT_LEAST:,} symbols or more"
        )
    return Texts(corpus=corpus, training=corpus.text[:-kept], held_out=corpus.text[-kept:])


def cut(text: str, count: int, symbols: int) -> list[str]:
    """Cut passages out of a text, evenly, each from a paragraph on and so many symbols long."""
    symbols = min(symbols, len(text))
    starts = np.linspace(0, len(text) - symbols, count).round().astype(int)
    blanks = [text.rfind("\n\n", 0, start) for start in starts]
    begins = [b + 2 if b >= 0 else s for b, s in zip(blanks, starts, strict=True)]
    return [text[begin : begin + symbols] for begin in begins]


def passage(texts: Texts, lead: int) -> str:
    """Return the text to show, after `lead` symbols to read first; it starts a line."""
    middle = len(texts.held_out) // 2
    start = texts.held_out.find("\n", middle, middle + lead) + 1 or middle
    return texts.held_out[start - lead : start + PASSAGE]
