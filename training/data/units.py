"""Texts that stand apart: documents, or records of one line, each read from a zero state.

A unit is read as the server reads a text: its first symbol is predicted from the start symbol, and
a record's last one is its newline. Units of about the same length are read side by side, so that
hardly any symbol of a window is filling.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.corpus.symbols import Ids
from training.data.streams import Position
from unroll.errors import CorpusError, SettingsError

IGNORED = -100  # a target that is filling: what torch's cross_entropy leaves out
LONGEST = 64  # windows; a longer unit is cut, and its parts are read from zero states, too

Batch = tuple[Tensor, Tensor, bool]
"""Inputs and targets, (T, N), and whether they begin units, from a zero state."""


def document_starts(symbols: int, documents: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where documents begin, and where the last one ends, (documents + 1,)."""
    return np.array([*documents, symbols])


def record_starts(ids: Ids, newline: int) -> NDArray[np.int64]:
    """Return where lines begin, and where the last one ends, (lines + 1,)."""
    ends = np.flatnonzero(ids == newline) + 1
    return np.unique(np.concatenate([[0], ends, [len(ids)]]))


@dataclass(frozen=True)
class _Plan:
    """An epoch: its units in order, and where batches begin, in units and in windows."""

    epoch: int
    order: NDArray[np.int64]
    batches: NDArray[np.int64]
    windows: NDArray[np.int64]


class Units:
    """Units in batches of like length; in each epoch they are put together and ordered anew.

    Args:
        ids: the text's token ids, integers, shape (symbols,).
        starts: where units begin, and where the last one ends.
        streams: N; so many units of a window or more are read side by side, of shorter ones as many
            more as make up the same number of symbols.
        window: T.
        start_id: the start symbol's.
        newline: id of a line's end; units that are nothing else are left out. -1: none is.
        seed: of the order.

    Raises:
        CorpusError: there is no unit.
    """

    def __init__(
        self,
        ids: Tensor,
        starts: NDArray[np.int64],
        *,
        streams: int,
        window: int,
        start_id: int,
        newline: int,
        seed: int,
    ) -> None:
        self.ids, self.N, self.T = ids, streams, window
        self._start_id, self._seed = start_id, seed
        begins, ends = starts[:-1], starts[1:]
        is_blank = (ends - begins == 1) & (_at(ids, begins) == newline)
        begins, ends = begins[~is_blank], ends[~is_blank]
        if not len(begins):
            raise CorpusError("corpus: has no document or record with a symbol; take another text")
        self.count = len(begins)
        self._begins, self._ends, self._is_first = _cut(begins, ends, LONGEST * window)
        self._plan = self._make_plan(0)

    @property
    def symbols(self) -> int:
        """How many symbols all units have."""
        return int((self._ends - self._begins).sum())

    def whole(self) -> Iterator[Ids]:
        """Yield each unit's token ids, (symbols,).

        Raises:
            SettingsError: a unit is so long that it is read in parts.
        """
        if not self._is_first.all():
            raise SettingsError(
                f"a document or record has more than {LONGEST * self.T:,} symbols, and is read in "
                "parts that are alone here only; leave --target out"
            )
        for begin, end in zip(self._begins, self._ends, strict=True):
            yield self.ids[begin:end].cpu().numpy()

    def windows(self, epoch: int) -> int:
        """Number of windows of an epoch."""
        return int(self._of(epoch).windows[-1])

    def after(self, position: Position) -> Position:
        """Return the position that follows, in this epoch or at the start of the next."""
        if position.window + 1 < self.windows(position.epoch):
            return Position(epoch=position.epoch, window=position.window + 1)
        return Position(epoch=position.epoch + 1)

    def rows(self, position: Position) -> int:
        """Return how many units are read side by side."""
        batch, _ = self._place(position)
        first, end = self._of(position.epoch).batches[batch : batch + 2]
        return int(end - first)

    def carries(self, position: Position) -> bool:
        """Whether a window goes on with what the one before it read."""
        return self._place(position)[1] > 0

    def places(self, position: Position) -> NDArray[np.int64]:
        """Return where in the text a window's targets lie, (at most T, rows).

        Where a unit has ended, it is IGNORED.
        """
        units, window = self._units(position), self._place(position)[1]
        begins, ends = self._begins[units], self._ends[units]
        steps = min(self.T, int((ends - begins).max()) - window * self.T)
        places: NDArray[np.int64] = begins + window * self.T + np.arange(steps)[:, None]
        places[places >= ends] = IGNORED
        return places

    def batch(self, position: Position) -> tuple[Tensor, Tensor]:
        """Return the inputs and the targets of a window, int64, (at most T, rows) both.

        Where a unit has ended, targets are IGNORED.
        """
        units, window = self._units(position), self._place(position)[1]
        places = self.places(position)
        is_filling = places == IGNORED
        places[is_filling] = 0
        at = torch.from_numpy(places).to(self.ids.device)
        targets, inputs = self.ids[at].long(), self.ids[(at - 1).clamp(min=0)].long()
        targets[torch.from_numpy(is_filling).to(targets.device)] = IGNORED
        if window == 0:
            inputs[0, torch.from_numpy(self._is_first[units])] = self._start_id
        return inputs, targets

    def all(self) -> Iterator[Batch]:
        """Yield the windows of an epoch, whose order is always the same."""
        for window in range(self.windows(0)):
            position = Position(window=window)
            yield *self.batch(position), not self.carries(position)

    def _units(self, position: Position) -> NDArray[np.int64]:
        plan, (batch, _) = self._of(position.epoch), self._place(position)
        return plan.order[plan.batches[batch] : plan.batches[batch + 1]]

    def _place(self, position: Position) -> tuple[int, int]:
        """Return the batch of a position, and the window in it."""
        starts = self._of(position.epoch).windows
        batch = int(np.searchsorted(starts, position.window, side="right")) - 1
        return batch, int(position.window - starts[batch])

    def _of(self, epoch: int) -> _Plan:
        if self._plan.epoch != epoch:
            self._plan = self._make_plan(epoch)
        return self._plan

    def _make_plan(self, epoch: int) -> _Plan:
        random = np.random.default_rng([self._seed, epoch])
        lengths = self._ends - self._begins
        order = np.lexsort((random.random(len(lengths)), -lengths))  # the longest first
        bounds = [0]
        while bounds[-1] < len(order):
            longest = int(lengths[order[bounds[-1]]])
            rows = self.N if longest >= self.T else self.N * self.T // longest
            bounds.append(min(bounds[-1] + rows, len(order)))
        batches = list(pairwise(bounds))
        shuffled = [batches[i] for i in random.permutation(len(batches))]
        windows = [-(-int(lengths[order[first]]) // self.T) for first, _ in shuffled]
        return _Plan(
            epoch=epoch,
            order=np.concatenate([order[first:end] for first, end in shuffled]),
            batches=np.cumsum([0, *(end - first for first, end in shuffled)]),
            windows=np.cumsum([0, *windows]),
        )


def _at(ids: Tensor, places: NDArray[np.int64]) -> Ids:
    found: Ids = ids[torch.from_numpy(places).to(ids.device)].cpu().numpy()
    return found


def _cut(
    begins: NDArray[np.int64], ends: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Cut units that are longer; return begins, ends and which parts begin a unit."""
    parts = -(-(ends - begins) // most)
    of_unit = np.repeat(np.arange(len(begins)), parts)
    number = np.arange(len(of_unit)) - np.repeat(np.cumsum(parts) - parts, parts)
    cut = begins[of_unit] + number * most
    return cut, np.minimum(cut + most, ends[of_unit]), number == 0
