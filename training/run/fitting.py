"""Updates that fit a time budget: a budget is kept only as finely as updates are short."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F

from training.model.model import CharRNN
from training.run.parallel import Group
from training.settings import TrainingSettings

UPDATE_AT_MOST = 0.02  # of a time budget
SECONDS_AT_LEAST = 0.5  # no shorter than the measurement is good for
MEASURED = 8  # symbols of each stream
STREAMS_AT_LEAST, WINDOW_AT_LEAST = 8, 16  # less teaches little


def fit_updates(
    settings: TrainingSettings,
    model: CharRNN,
    group: Group,
    measure: Callable[[CharRNN, int], float] | None = None,
) -> TrainingSettings:
    """Return the settings with fewer streams, then a shorter window, where an update is long.

    Args:
        settings: of the training; with epochs instead of minutes they stay as they are.
        model: with its initial weights; it keeps them, and torch's random numbers stay.
        group: the processes that train together; all get what the first one found.
        measure: tells how long so many symbols of so many streams take to learn from, in seconds.
    """
    if not settings.minutes:
        return settings
    at_most = max(UPDATE_AT_MOST * 60 * settings.minutes, SECONDS_AT_LEAST)
    measure = measure or measure_update
    streams, window = settings.streams, settings.window
    if group.first:
        steps = min(MEASURED, window)
        each = measure(model, streams // group.size) / (steps * streams)
        while each * streams * window > at_most:
            if streams > STREAMS_AT_LEAST and streams % (2 * group.size) == 0:
                streams //= 2
            elif window > WINDOW_AT_LEAST:
                window //= 2
            else:
                break
    streams, window = group.share([streams, window])
    return replace(settings, streams=streams, window=window)


def measure_update(model: CharRNN, streams: int) -> float:
    """Return how many seconds it takes to learn from a few symbols of so many streams.

    The first time compiles the steps; the shorter of two more counts.
    """
    with torch.random.fork_rng():
        took = [_learn(model, streams) for _ in range(3)]
    model.zero_grad()
    return min(took[1:])


def _learn(model: CharRNN, streams: int) -> float:
    ids = torch.zeros(MEASURED, streams, dtype=torch.int64, device=model.decoder.weight.device)
    begun = time.monotonic()
    logits, _ = model(ids, model.zero_state(streams))  # (T, M * N, V)
    loss = F.cross_entropy(logits.flatten(0, 1), ids.repeat(1, model.settings.members).flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    float(model.decoder.bias.grad.sum())  # type: ignore[union-attr]  # waits for a device
    return time.monotonic() - begun
