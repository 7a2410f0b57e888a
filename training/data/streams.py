"""Contiguous parallel streams: how a text becomes windows for back-propagation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.names import Names
from unroll.errors import CorpusError, counted


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in a training: an epoch and the next window of it, both from 0."""

    epoch: int = 0
    window: int = 0


class Streams:
    """A text cut into N stretches that are read side by side, T symbols at a time.

    Window k + 1 of a stream goes on where window k ended, so the recurrent state can be carried.
    Every epoch starts at an offset of its own, and the text is a ring, so that each epoch cuts the
    streams elsewhere. The offset is a function of seed and epoch, so a position is all that is
    needed to go on.

    Args:
        ids: the text's token ids, integers, shape (symbols,).
        streams: N.
        window: T.
        start_offset: an epoch starts at a random one of the first so many symbols and ends with the
            text; 0 lets it start at any symbol and go round.
        seed: seed of the offsets.
        names: those of the text, to be spelled otherwise in each epoch; None leaves all as it is.

    Raises:
        CorpusError: the text is too short for one window of each stream.
    """

    def __init__(
        self,
        ids: Tensor,
        *,
        streams: int,
        window: int,
        start_offset: int,
        seed: int,
        names: Names | None = None,
    ) -> None:
        spare = len(ids) - 1 - streams * window
        if spare < max(0, start_offset - 1):
            offset = f" with --start-offset {start_offset}" if start_offset > 1 else ""
            raise CorpusError(
                f"corpus: too short, with {counted(len(ids), 'symbol')} to train on: --streams "
                f"{streams} x --window {window}{offset} needs "
                f"{streams * window + max(1, start_offset):,}; take a longer text, fewer streams "
                "or a shorter window"
            )
        self.ids, self.N, self.T = ids, streams, window
        self._start_offset, self._seed = start_offset, seed
        self._names, self._respelled = names, (-1, ids)  # epoch and its text

    def offset(self, epoch: int) -> int:
        """The symbol that an epoch starts at."""
        starts = self._start_offset or len(self.ids)
        return int(np.random.default_rng([self._seed, epoch]).integers(starts))

    def windows(self, epoch: int) -> int:
        """Number K of windows of an epoch; fewer than N * T symbols are left over."""
        left_out = self.offset(epoch) if self._start_offset else 0
        return (len(self.ids) - 1 - left_out) // (self.N * self.T)

    def rows(self, position: Position) -> int:
        """Return how many stretches are read side by side: always N."""
        return self.N

    def carries(self, position: Position) -> bool:
        """Whether a window goes on with what the one before it read."""
        return position.window > 0

    def batch(self, position: Position) -> tuple[Tensor, Tensor]:
        """Return the inputs and the targets (each the next symbol) of a window.

        Returns:
            Both int64, (T, N).
        """
        length = self.windows(position.epoch) * self.T
        starts = self.offset(position.epoch) + position.window * self.T
        device = self.ids.device
        rows = starts + torch.arange(self.T, device=device)[:, None]  # (T, 1)
        indices = rows + length * torch.arange(self.N, device=device)  # (T, N)
        ids = self._text(position.epoch)
        return ids[indices % len(ids)].long(), ids[(indices + 1) % len(ids)].long()

    def _text(self, epoch: int) -> Tensor:
        """Return what an epoch reads."""
        if self._names is None:
            return self.ids
        if self._respelled[0] != epoch:
            self._respelled = epoch, self._names.respelled(self.ids, epoch)
        return self._respelled[1]

    def after(self, position: Position) -> Position:
        """Return the position that follows, in this epoch or at the start of the next."""
        if position.window + 1 < self.windows(position.epoch):
            return Position(epoch=position.epoch, window=position.window + 1)
        return Position(epoch=position.epoch + 1)
