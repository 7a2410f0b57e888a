"""The text that a model is judged on, and proof that it was not trained on it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.corpus.corpus import Corpus, load_corpus, load_same_corpus
from training.data.decoding.decode import Rules
from training.data.prepared import unit_starts, units_of
from training.data.splits import Parts, split_symbols
from training.data.units import Units
from training.run.checkpoint import Checkpoint
from training.settings import Split, TrainingSettings
from unroll.errors import CorpusError, SettingsError

# A text is known in another one by pieces of it. So long a piece is found in another only where one
# holds the other: all 256 of tinyshakespeare's test are in shakespeare, and none in sherlock.
PIECE = 50  # symbols
PIECES = 256
SHARED_AT_MOST = 0.01

TUNING_SYMBOLS = 20_000


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a model is judged on.

    Attributes:
        corpus: the text that it is a part of.
        split: which part.
        symbols: the part, as a range of that text's symbols.
        text: the part.
        tuning: the end of what the model was trained on, to choose by how it adapts.
        units: documents or records of the part, where the model was trained on such.
        unit: what one is called; empty for one long text.
    """

    corpus: Corpus
    split: Split
    symbols: range
    text: str
    tuning: str
    units: Units | None = None
    unit: str = ""


def find_held_out(
    checkpoint: Checkpoint, *, corpus: str | None = None, split: Split | None = None
) -> HeldOut:
    """Find the held-out part of the text that a model was trained on, or of another.

    Args:
        checkpoint: of the model.
        corpus: name or path of a text; by default the training's, where the training found it.
            Another text than that is split as a training splits it by default.
        split: by default the training's; of another text, `test`.

    Raises:
        CorpusError: a text is not there or too short, or the model was trained on a text that holds
            this one.
        SettingsError: the training kept nothing, the model was trained on the part, or the
            training's text has changed.
    """
    settings = checkpoint.training_settings
    if not settings.corpus:
        raise SettingsError(
            "corpus: the model was adopted without the text that it was trained on, so no text can "
            "be known to be held out; adopt it again with --corpus"
        )
    asked, trained, rules = _texts(checkpoint, corpus, split)
    seen = split_symbols(len(trained), settings, unit_starts(trained, settings)).training
    starts = unit_starts(asked, rules)
    parts = split_symbols(len(asked), rules, starts)
    text = asked.part(parts.held_out)
    if asked.sha256 == trained.sha256:
        _check_same(settings, rules, seen, parts)
    elif text:
        _check_other(asked, text, trained.part(seen), trained.name)
    if not text:
        raise CorpusError(
            f"corpus {asked.name}: its {len(asked)} symbols leave none to measure on; take a "
            "longer text"
        )
    return HeldOut(
        corpus=asked,
        split=rules.split,
        symbols=parts.held_out,
        text=text,
        tuning=trained.part(seen[len(seen) - min(len(seen) // 10, TUNING_SYMBOLS) :]),
        units=None if starts is None else _units(checkpoint, asked, parts, starts, rules),
        unit=rules.unit,
    )


def _texts(
    checkpoint: Checkpoint, corpus: str | None, split: Split | None
) -> tuple[Corpus, Corpus, TrainingSettings]:
    """Load the text that is asked for and the training's; return how the first is split, too."""
    settings = checkpoint.training_settings
    rules_of_text = Rules.of(settings)
    asked = load_corpus(corpus or settings.corpus, rules_of_text)
    same = corpus is None or asked.sha256 == checkpoint.corpus_sha256
    trained = load_same_corpus(
        (same and corpus) or settings.corpus,
        rules_of_text,
        sha256=checkpoint.corpus_sha256,
    )
    if same:
        return asked, trained, replace(settings, split=split or settings.split)
    documents, records = settings.documents, settings.records
    return (
        asked,
        trained,
        TrainingSettings(split=split or "test", documents=documents, records=records),
    )


def _units(
    checkpoint: Checkpoint,
    corpus: Corpus,
    parts: Parts,
    starts: NDArray[np.int64],
    rules: TrainingSettings,
) -> Units:
    translated = corpus.under(checkpoint.vocabulary)
    ids = translated.symbols.ids[parts.held_out.start : parts.held_out.stop]
    return units_of(torch.from_numpy(ids), parts.held_out, starts, translated, rules)


def _check_same(
    settings: TrainingSettings, rules: TrainingSettings, seen: range, parts: Parts
) -> None:
    if settings.validation_fraction == 0:
        raise SettingsError(
            "validation_fraction = 0: the model was trained on all of its text, so none is left "
            "to measure it on; train with --validation-fraction 0.1, or name another text with "
            "--corpus"
        )
    if parts.held_out.start < seen.stop:
        raise SettingsError(
            f"split = {rules.split!r}: symbols {parts.held_out.start:,} to "
            f"{parts.held_out.stop:,} of the text are among the first {seen.stop:,}, which the "
            f"model was trained on under split = {settings.split!r}; leave --split out"
        )


def _check_other(asked: Corpus, text: str, trained: str, trained_name: str) -> None:
    known = _share_of_pieces(text, trained)
    if known > SHARED_AT_MOST:
        raise CorpusError(
            f"corpus {asked.name}: the model was trained on {trained_name}, which holds "
            f"{known:.0%} of the text to measure on; train on {asked.name}, or name a text "
            f"that is not in {trained_name}"
        )


def _share_of_pieces(text: str, other: str) -> float:
    """Return the share of a text's pieces, spread evenly over it, that another text holds.

    Line breaks and indents do not count.
    """
    text, other = " ".join(text.split()), " ".join(other.split())
    starts = np.linspace(0, max(0, len(text) - PIECE), PIECES).astype(int)
    return float(np.mean([text[start : start + PIECE] in other for start in starts]))
