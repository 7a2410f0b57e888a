"""Rare symbols: the model knows them all as one, since it sees each too seldom to learn it."""

from dataclasses import replace

import numpy as np

from training.data.corpus.corpus import Corpus
from training.data.prepared import unit_starts
from training.data.splits import split_symbols
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError

UNKNOWN = "\ufffd"  # Unicode's replacement character


def join_rare(corpus: Corpus, settings: TrainingSettings) -> Corpus:
    """Read symbols that the training part has too seldom as one unknown symbol, the last id.

    The symbol that texts start after stays, however rare.

    Args:
        corpus: its notes get one that tells what was joined.
        settings: `rare_symbols`, fewer than which are rare; 0 leaves the text as it is.

    Raises:
        CorpusError: fewer than two symbols would be left.
    """
    if not settings.rare_symbols:
        return corpus
    starts = unit_starts(corpus, settings)
    end = split_symbols(len(corpus), settings, starts).training.stop
    counts, old = corpus.symbols.counts(end), corpus.vocabulary
    is_kept = counts >= settings.rare_symbols
    is_kept[old.start_id] = True
    kept = "".join(old.symbols[i] for i in np.flatnonzero(is_kept) if old.symbols[i] != UNKNOWN)
    if len(kept) < 2:
        raise CorpusError(
            f"corpus {corpus.name}: no symbol but {kept!r} occurs {settings.rare_symbols} times in "
            f"the {end:,} to train on; take a longer text or a smaller --rare-symbols"
        )
    joined = corpus.under(Vocabulary(kept + UNKNOWN, old.start_symbol, old.form, UNKNOWN))
    return replace(joined, notes=(*corpus.notes, _told(joined, len(old) - len(kept), end)))


def _told(corpus: Corpus, count: int, end: int) -> str:
    unknown = int(corpus.symbols.counts(end)[-1])
    if not unknown:
        return "rare_symbols: none is so rare, so that the model learns nothing of an unknown one"
    return (
        f"rare_symbols: {count:,} different ones are read as one unknown symbol, "
        f"{unknown:,} of the {end:,} to train on"
    )
