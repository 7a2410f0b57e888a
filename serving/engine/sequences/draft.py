"""What a sequence has written and not yet delivered."""

from itertools import count
from math import inf

import numpy as np
from numpy.typing import NDArray

from serving.engine.sequences.request import SequenceRequest
from serving.engine.sequences.snapshot import NO_LOG_PROBS
from serving.runtime.likeliest import Likeliest

NO_LIMIT = 2**62  # symbols
GOLDEN = (5**0.5 - 1) / 2
_STARTED = count(1)


class Draft:
    """Symbols that are held back, as they may become a stop string, or gathered for a chunk.

    Args:
        request: whose text it is.

    Attributes:
        held_text: the symbols held back.
        held_log_probs: of each.
        due: time.monotonic() from which the next chunk may go out.
    """

    def __init__(self, request: SequenceRequest) -> None:
        self.held_text = ""
        self.held_log_probs = NO_LOG_PROBS
        self.due = 0.0 if request.chunk_seconds < inf else inf
        self._request = request
        self._gathered: list[tuple[str, NDArray[np.float32]]] = []
        self._gathered_symbols = 0
        # At the symbols that are held or gathered, and at some that will not be delivered.
        self._likeliest: list[Likeliest] = []
        if request.alternatives:
            self._likeliest.append(Likeliest.unknown(request.held, request.alternatives))
        self._has_sent = False

    @property
    def room(self) -> int:
        """How many more symbols make a chunk that must not wait."""
        limit = self._request.buffer_symbols
        if limit is None:
            return NO_LIMIT
        return limit - self._gathered_symbols - len(self.held_log_probs)

    def rank(self, likeliest: Likeliest) -> None:
        """Add the likeliest symbols at those that were read or written."""
        self._likeliest.append(likeliest)

    def gather(self, text: str, log_probs: NDArray[np.float32], now: float) -> bool:
        """Keep symbols for a later chunk; False if there is to be one now."""
        limit, symbols = self._request.buffer_symbols, len(log_probs)
        if now >= self.due or (limit is not None and self._gathered_symbols + symbols >= limit):
            return False
        self._gathered.append((text, log_probs))
        self._gathered_symbols += symbols
        return True

    def wait(self, now: float, patience: float) -> None:
        """Gather for so many seconds, after a chunk that is not the last."""
        patience = max(patience, self._request.chunk_seconds)
        # Sequences that began together would go on sending together: their first waits differ.
        phase = 1.0 if self._has_sent else next(_STARTED) * GOLDEN % 1
        self.due = now + patience * phase
        self._has_sent = True

    def take(
        self, text: str = "", log_probs: NDArray[np.float32] = NO_LOG_PROBS
    ) -> tuple[str, NDArray[np.float32], Likeliest | None]:
        """Put what was gathered before a text, and forget it; also what was likely at all of it."""
        if self._gathered:
            texts, arrays = zip(*self._gathered, (text, log_probs), strict=True)
            self._gathered, self._gathered_symbols = [], 0
            text, log_probs = "".join(texts), np.concatenate(arrays)
        if not self._request.alternatives:
            return text, log_probs, None
        kept = Likeliest.joined(self._likeliest)
        self._likeliest = [kept[len(log_probs) :]]
        return text, log_probs, kept[: len(log_probs)]
