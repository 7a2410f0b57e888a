"""Splits: which symbols of a text a model is trained on, and which it is judged on.

    test   |------------ training ------------|- held out -|
    tune   |------- training -------|held out-|-- unread --|

Settings are chosen by what `tune` holds out, so that the end of the text has no part in it; the
figure that counts is then that of `test`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a text, as ranges of its symbols.

    Attributes:
        training: from the text's first symbol.
        held_out: what follows; empty where nothing is kept.
    """

    training: range
    held_out: range


def split_symbols(
    symbols: int, settings: TrainingSettings, starts: NDArray[np.int64] | None = None
) -> Parts:
    """Split a text.

    Where units stand apart, parts end where the last unit begins that they do not hold.

    Of n symbols, int(n * (1 - validation_fraction)) come before what is kept: of the 1,115,394 of
    tinyshakespeare 1,003,854, which leaves 111,540.

    Args:
        symbols: length of the whole text.
        settings: `max_symbols`, which cuts the text first, `validation_fraction` and `split`.
        starts: where units begin, and where the last one ends; None where none stand apart.
    """

    def whole(end: int) -> int:
        """Cut no unit."""
        return end if starts is None else int(starts[np.searchsorted(starts, end, "right") - 1])

    end = whole(min(symbols, settings.max_symbols or symbols))
    share = 1 - settings.validation_fraction
    if settings.split == "tune":
        end = whole(int(end * share))
    cut = whole(int(end * share))
    return Parts(training=range(cut), held_out=range(cut, end))
