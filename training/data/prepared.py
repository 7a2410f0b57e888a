"""A corpus as token ids, split into training and validation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.corpus import Corpus
from training.data.names import SYMBOLS_AT_MOST, Names
from training.data.splits import split_symbols
from training.data.streams import Streams
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training reads."""

    corpus_name: str
    corpus_sha256: str
    vocabulary: Vocabulary
    """Of the whole text, so that trainings on parts of it compare."""

    streams: Streams
    """The text to train on."""

    validation: Tensor | None
    """Token ids of the held-out part, integers, shape (symbols,); None where nothing is kept."""

    names: Names | None = None
    """Those that each epoch spells otherwise; None where none shall be."""

    notes: tuple[str, ...] = ()
    """What the settings asked for and the text does not suit."""


def prepare_data(corpus: Corpus, settings: TrainingSettings) -> TrainingData:
    """Encode a corpus and split it.

    Raises:
        CorpusError: the corpus or its validation part is too short.
    """
    parts = split_symbols(len(corpus), settings)
    held = torch.from_numpy(corpus.symbols.ids[: parts.held_out.stop])
    ids = held if settings.device == "cpu" else held.to(settings.device)
    kept = len(parts.held_out)
    names, notes = _names(corpus, parts.training, settings)
    if settings.validation_fraction and kept < 2:
        raise CorpusError(
            f"corpus {corpus.name}: {settings.validation_fraction:g} of {len(ids)} symbols leaves "
            f"{kept} for validation, which needs 2; take a longer text or "
            "--validation-fraction 0"
        )
    return TrainingData(
        corpus_name=corpus.name,
        corpus_sha256=corpus.sha256,
        vocabulary=corpus.vocabulary,
        streams=Streams(
            ids[: len(ids) - kept],
            streams=settings.streams,
            window=settings.window,
            start_offset=settings.start_offset,
            seed=settings.seed,
            names=names,
        ),
        names=names,
        notes=notes,
        validation=ids[len(ids) - kept :] if kept else None,
    )


def _names(
    corpus: Corpus, training: range, settings: TrainingSettings
) -> tuple[Names | None, tuple[str, ...]]:
    """Find the names that each epoch spells otherwise, and say why there are none to be."""
    if not settings.respell_names:
        return None, ()
    if len(training) > SYMBOLS_AT_MOST and not settings.is_of_0_1:
        return None, (
            f"respell_names: switched off, since the text has over {SYMBOLS_AT_MOST:,} symbols",
        )
    text = corpus.part(training)
    names = Names(text, corpus.vocabulary, settings.respell_names, settings.seed)
    if names.misfit and not settings.is_of_0_1:
        return None, (f"respell_names: switched off, since {names.misfit}",)
    return names, ()
