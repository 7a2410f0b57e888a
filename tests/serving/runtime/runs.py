"""Runs of the compiled loop, put together and taken apart."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.sampling import SamplingParams, uniforms

# Sizes of batches, up to 130: each around and below two tiles of 16 rows, and each side of others.
BATCHES = (*range(1, 34), 47, 48, 49, 63, 64, 65, 79, 80, 81, 95, 96, 97, 127, 128, 129, 130)

Index = slice | list[int] | NDArray[np.int64]

PLAIN = (
    SamplingParams(),
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1.9),
)
FILTERED = (
    SamplingParams(top_k=3),
    SamplingParams(top_p=0.8),
    SamplingParams(min_p=0.2),
    SamplingParams(temperature=1.3, top_k=7, top_p=0.9, min_p=0.05),
    SamplingParams(temperature=0, top_k=2),
)


def random_run(
    decoder: Decoder, vocabulary_size: int, steps: int, sampling: Sequence[SamplingParams]
) -> tuple[LoopRun, State]:
    """Make rows of which no two are alike, in the middle of their texts.

    A third of the rows samples, a third is forced, a third changes over on the way; states are
    random and not zero.
    """
    rows = len(sampling)
    random = np.random.default_rng(rows * 1000 + steps)
    forced = random.integers(0, vocabulary_size, (steps, rows))
    forced[:, ::3] = FREE
    forced[steps // 2 :, 1::3] = FREE
    call = LoopRun(
        tokens=random.integers(0, vocabulary_size, rows),
        forced=forced,
        uniform=np.stack([uniforms(row, 3 * row, steps) for row in range(rows)], axis=1),
        steps=np.full(rows, steps),
        temperature=np.array([s.temperature for s in sampling], np.float32),
        top_k=np.array([s.top_k for s in sampling], np.int64),
        top_p=np.array([s.top_p for s in sampling], np.float32),
        min_p=np.array([s.min_p for s in sampling], np.float32),
    )
    state = {
        name: random.uniform(-1, 1, zero.shape).astype(np.float32)
        for name, zero in decoder.zero_state(rows).items()
    }
    return call, state


def rows_of(call: LoopRun, rows: Index) -> LoopRun:
    """Take some rows of a loop run."""
    return LoopRun(
        tokens=call.tokens[rows],
        forced=call.forced[:, rows],
        uniform=call.uniform[:, rows],
        steps=call.steps[rows],
        temperature=call.temperature[rows],
        top_k=call.top_k[rows],
        top_p=call.top_p[rows],
        min_p=call.min_p[rows],
    )


def state_rows(state: State, rows: Index) -> State:
    """Take some rows of a state."""
    return {name: tensor[:, rows] for name, tensor in state.items()}


def run_in_cuts(decoder: Decoder, call: LoopRun, state: State, cuts: list[int]) -> LoopResult:
    """Make a loop run in several, each going on where the one before it ended."""
    tokens, parts = call.tokens, []
    ends = sorted({*cuts, len(call.forced)})
    for begin, end in zip([0, *ends], ends, strict=False):
        part = replace(
            call,
            tokens=tokens,
            forced=call.forced[begin:end],
            uniform=call.uniform[begin:end],
            steps=np.maximum(call.steps - begin, 0),
        )
        parts.append(decoder.run(part, state))
        tokens, state = parts[-1].tokens[-1], parts[-1].state
    return LoopResult(
        tokens=np.concatenate([part.tokens for part in parts]),
        log_probs=np.concatenate([part.log_probs for part in parts]),
        state=state,
    )


def assert_same_bits(one: LoopResult, other: LoopResult) -> None:
    """Compare all outputs, bit for bit; no NaN equals another."""
    assert np.isfinite(one.log_probs).all()
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.log_probs, other.log_probs)
    assert one.state.keys() == other.state.keys()
    for name, tensor in one.state.items():
        assert np.isfinite(tensor).all()
        np.testing.assert_array_equal(tensor, other.state[name], err_msg=name)


def result_rows(result: LoopResult, rows: Index) -> LoopResult:
    """Take some rows of a result."""
    return LoopResult(
        tokens=result.tokens[:, rows],
        log_probs=result.log_probs[:, rows],
        state=state_rows(result.state, rows),
    )


def joined_rows(results: list[LoopResult]) -> LoopResult:
    """Put results side by side."""
    return LoopResult(
        tokens=np.concatenate([result.tokens for result in results], 1),
        log_probs=np.concatenate([result.log_probs for result in results], 1),
        state={
            name: np.concatenate([result.state[name] for result in results], 1)
            for name in results[0].state
        },
    )
