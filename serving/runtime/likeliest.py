"""The likeliest symbols along a text, as the compiled loop finds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The likeliest symbols at each of some places, the likeliest first.

    Attributes:
        ids: of the symbols, int64, (places, count); NOBODY where they are not known.
        log_probs: of each under the model, before temperature, float32, likewise.
    """

    ids: NDArray[np.int64]
    log_probs: NDArray[np.float32]

    @classmethod
    def unknown(cls, places: int, count: int) -> Self:
        """Describe places at which nobody asked."""
        shape = (places, count)
        return cls(np.full(shape, NOBODY), np.full(shape, np.nan, np.float32))

    @classmethod
    def joined(cls, parts: "Sequence[Likeliest]") -> Self:
        """Put places after each other."""
        ids = np.concatenate([part.ids for part in parts])
        return cls(ids, np.concatenate([part.log_probs for part in parts]))

    def cut(self, begin: int, end: int, count: int) -> "Likeliest":
        """Copy the first `count` symbols at the places from `begin` to `end`."""
        return Likeliest(
            self.ids[begin:end, :count].copy(), self.log_probs[begin:end, :count].copy()
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, places: slice) -> "Likeliest":
        return Likeliest(self.ids[places], self.log_probs[places])


NOBODY = -1
