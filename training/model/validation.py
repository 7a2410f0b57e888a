"""The loss on text that the model is not trained on."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.model.model import CharRNN

SYMBOLS_PER_STREAM = 1024  # at least; a stream starts from a zero state, which costs its first few
STREAMS_AT_MOST = 64
WINDOW = 256  # bounds the memory, nothing else: the state is carried
LOGITS_AT_MOST = 2**24  # of a window; the same


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reading of streams side by side gave.

    Attributes:
        loss: mean of all symbols read, in nats.
        symbols: how many were predicted.
        steps: how far it was read: symbols of each stream, or windows of units.
    """

    loss: float
    symbols: int
    steps: int


class Limit:
    """Tells when a reading has taken so many seconds, its first window not counted.

    The first window may have to compile the steps, and later readings will not.

    Args:
        seconds: may be infinite.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._end: float | None = None

    def __call__(self) -> bool:
        """Whether the time is over; the first question, after a window, starts it."""
        if self._end is None:
            self._end = self._clock() + self._seconds
        return self._clock() >= self._end


def never() -> bool:
    """Set no limit."""
    return False


@torch.no_grad()
def validate(
    model: CharRNN, ids: Tensor, *, steps: int = 0, is_over: Callable[[], bool] = never
) -> Reading:
    """Return the mean loss of predicting each symbol from all before it.

    The text is read as parallel streams with carried state; fewer symbols than there are streams
    are left over at its end. Where only the first steps of each stream are read, these are
    stretches that are spread evenly over the text.

    Args:
        model: is in its previous mode again afterwards.
        ids: token ids, integers, shape (symbols,), at least 2.
        steps: so many symbols of each stream are read; 0 reads all.
        is_over: asked after each window whether to stop.
    """
    inputs, targets = _as_streams(ids)
    with evaluating(model):
        return read_streams(
            model, inputs[: steps or len(inputs)], targets[: steps or len(inputs)], is_over
        )


@torch.no_grad()
def validate_units(
    model: CharRNN,
    batches: Iterable[tuple[Tensor, Tensor, bool]],
    *,
    steps: int = 0,
    is_over: Callable[[], bool] = never,
) -> Reading:
    """Return the mean loss of units that are read each from a zero state.

    Args:
        model: is in its previous mode again afterwards.
        batches: inputs and targets, (T, N), and whether they begin units; negative targets are
            left out.
        steps: so many batches are read; 0 reads all.
        is_over: asked after each batch whether to stop.
    """
    with evaluating(model):
        return read_units(model, batches, steps=steps, is_over=is_over)


@contextmanager
def evaluating(model: CharRNN) -> Iterator[None]:
    """Put a model into evaluation mode, with the layers that train it, for a while."""
    before = model.training, model.compiled
    model.eval()
    model.compiled = True
    yield
    model.train(before[0])
    model.compiled = before[1]


@torch.no_grad()
def read_streams(
    model: CharRNN, inputs: Tensor, targets: Tensor, is_over: Callable[[], bool] = never
) -> Reading:
    """Return the mean loss of streams that are read side by side from a zero state.

    Args:
        model: in evaluation mode.
        inputs: token ids, (T, N).
        targets: the symbol after each, (T, N).
        is_over: asked after each window whether to stop.
    """
    N, V = inputs.shape[1], model.settings.vocabulary_size
    window = max(1, min(WINDOW, LOGITS_AT_MOST // (N * V)))
    state, total, steps = model.zero_state(N), 0.0, 0
    for x, y in zip(torch.split(inputs, window), torch.split(targets, window), strict=True):
        logits, state = model(x.long(), state)  # (window, N, V)
        total += float(F.cross_entropy(logits.flatten(0, 1), y.long().flatten(), reduction="sum"))
        steps += len(x)
        if is_over():
            break
    return Reading(loss=total / (steps * N), symbols=steps * N, steps=steps)


@torch.no_grad()
def read_units(
    model: CharRNN,
    batches: Iterable[tuple[Tensor, Tensor, bool]],
    *,
    steps: int = 0,
    is_over: Callable[[], bool] = never,
) -> Reading:
    """Return what `validate_units` returns, of a model in evaluation mode."""
    state, total, symbols, read = model.zero_state(1), 0.0, 0, 0
    for inputs, targets, begins in batches:
        state = model.zero_state(inputs.shape[1]) if begins else state
        logits, state = model(inputs, state)  # (T, N, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        total += float(loss)
        symbols += int((targets >= 0).sum())
        read += 1
        if read == steps or is_over():
            break
    return Reading(loss=total / symbols, symbols=symbols, steps=read)


def _as_streams(ids: Tensor) -> tuple[Tensor, Tensor]:
    pairs = len(ids) - 1
    N = min(max(pairs // SYMBOLS_PER_STREAM, 1), STREAMS_AT_MOST)
    T = pairs // N
    return ids[: N * T].view(N, T).t(), ids[1 : N * T + 1].view(N, T).t()
