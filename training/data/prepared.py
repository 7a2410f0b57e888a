"""A corpus as token ids, split into training and validation."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.corpus.corpus import Corpus
from training.data.names import SYMBOLS_AT_MOST, Names
from training.data.splits import split_symbols
from training.data.streams import Streams
from training.data.units import Units, document_starts, record_starts
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError, counted


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training reads."""

    corpus_name: str
    corpus_sha256: str
    vocabulary: Vocabulary
    """Of the whole text, so that trainings on parts of it compare."""

    streams: Streams | Units
    """The text to train on."""

    validation: Tensor | None
    """Token ids of the held-out part, integers, shape (symbols,); None where nothing is kept."""

    held_out: Units | None = None
    """The units of the held-out part, where they stand apart."""

    names: Names | None = None
    """Those that each epoch spells otherwise; None where none shall be."""

    notes: tuple[str, ...] = ()
    """What the settings asked for and the text does not suit."""


def prepare_data(corpus: Corpus, settings: TrainingSettings) -> TrainingData:
    """Encode a corpus and split it.

    Raises:
        CorpusError: the corpus or its validation part is too short.
    """
    starts = unit_starts(corpus, settings)
    parts = split_symbols(len(corpus), settings, starts)
    held = torch.from_numpy(corpus.symbols.ids[: parts.held_out.stop])
    ids = held if settings.device == "cpu" else held.to(settings.device)
    kept = len(parts.held_out)
    names, notes = _names(corpus, parts.training, settings)
    if settings.validation_fraction and kept < 2:
        raise CorpusError(
            f"corpus {corpus.name}: --validation-fraction {settings.validation_fraction:g} of "
            f"{counted(len(ids), 'symbol')} holds out {kept}, and validation needs 2; take a "
            "longer text, or --validation-fraction 0 to train without"
        )
    training, validation = ids[: len(ids) - kept], ids[len(ids) - kept :] if kept else None
    units = held_out = None
    if starts is not None:
        units = units_of(training, parts.training, starts, corpus, settings)
        if validation is not None:
            # In small batches, each of one length of unit, so that a few are a fair sample of all.
            small = replace(settings, streams=max(1, settings.streams // 4))
            held_out = units_of(validation, parts.held_out, starts, corpus, small)
    return TrainingData(
        corpus_name=corpus.name,
        corpus_sha256=corpus.sha256,
        vocabulary=_vocabulary(corpus, settings),
        streams=units
        or Streams(
            training,
            streams=settings.streams,
            window=settings.window,
            start_offset=settings.start_offset,
            seed=settings.seed,
            names=names,
        ),
        names=names,
        notes=notes,
        validation=validation,
        held_out=held_out,
    )


def unit_starts(corpus: Corpus, settings: TrainingSettings) -> NDArray[np.int64] | None:
    """Return where the units of a text begin, and where the last one ends.

    Returns:
        (units + 1,); None where nothing stands apart.

    Raises:
        CorpusError: there are not two units, of which one could be held out.
    """
    if not settings.apart:
        return None
    if settings.documents:
        starts = document_starts(len(corpus), corpus.symbols.documents)
    else:
        starts = record_starts(corpus.symbols.ids, newline_id(corpus.vocabulary))
    if len(starts) < 3:
        raise CorpusError(
            f"corpus {corpus.name}: is one {'file' if settings.documents else 'line'}, so that "
            f"nothing stands apart; leave out --{'documents' if settings.documents else 'records'}"
        )
    return starts


def _vocabulary(corpus: Corpus, settings: TrainingSettings) -> Vocabulary:
    vocabulary = corpus.vocabulary
    if not settings.records:
        return vocabulary
    return vocabulary.with_form(replace(vocabulary.form, unit="record"))


def newline_id(vocabulary: Vocabulary) -> int:
    """Return the id of a line's end; -1 where there is none."""
    return vocabulary.symbols.find("\n")


def units_of(
    ids: Tensor,
    part: range,
    starts: NDArray[np.int64],
    corpus: Corpus,
    settings: TrainingSettings,
) -> Units:
    """Return the units of a part of the text."""
    inside = starts[(starts >= part.start) & (starts <= part.stop)] - part.start
    return Units(
        ids,
        inside,
        streams=settings.streams,
        window=settings.window,
        start_id=corpus.vocabulary.start_id,
        newline=newline_id(corpus.vocabulary),
        seed=settings.seed,
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
