"""Do the unrolled graphs compute what the loop computes? On the CPU, to the last bit.

What torch says of the loop then holds for them. On CUDA their sums run in another order; the tests
marked `cuda` compare that.
"""

from dataclasses import replace

import numpy as np

from export.parity import require_within, uniform_columns
from serving.runtime.decoder import FREE, Decoder, LoopRun, State
from serving.runtime.device import DeviceRunner
from serving.runtime.host import HostRunner, Runner, Written
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import Rung

T, N = 41, 5  # pieces of 32, 8 and 1 steps; five rows and three of padding
SLOTS = 8


def prove_unrolled(bundle: Bundle, seed: int, limit: float) -> list[Rung]:
    """Make the same loop runs through the loop and through the unrolled graphs.

    Args:
        bundle: one exported for CUDA; its manifest's parity report is not read.
        seed: for the random states and symbols.
        limit: how far they may be apart; 0 wherever the CPU computes a row as it does alone.

    Returns:
        A rung without filters and one with them.

    Raises:
        ParityError: they are further apart; says how far.
    """
    decoder = Decoder(bundle, Device.CPU)
    runners = HostRunner(decoder, SLOTS), DeviceRunner(bundle, Device.CPU, SLOTS)
    random = np.random.default_rng(seed)
    states: list[State] = [
        {
            name: random.uniform(-1, 1, zero[:, 0].shape).astype(zero.dtype)
            for name, zero in decoder.zero_state(1).items()
        }
        for _ in range(N)
    ]
    plain = _loop_run(len(bundle.vocabulary), seed)
    with_filters = replace(
        plain,
        top_k=np.array([0, 3, 0, 0, 5]),
        top_p=np.array([1, 1, 0.8, 1, 0.9], np.float32),
        min_p=np.array([0, 0, 0, 0.1, 0.05], np.float32),
    )
    rungs = [
        Rung(
            name=f"unrolled: {name}",
            difference=_difference(runners, states, run),
            limit=limit,
            compared=f"{T} symbols x {N} rows, all outputs",
        )
        for name, run in (("plain", plain), ("filters", with_filters))
    ]
    require_within(
        rungs,
        "the unrolled graphs differ from the loop",
        "Export without --device cuda, and report this",
    )
    return rungs


def _loop_run(vocabulary_size: int, seed: int) -> LoopRun:
    """Rows that are read, written, or first read and then written; one ends early."""
    random = np.random.default_rng(seed + 1)
    forced = random.integers(0, vocabulary_size, (T, N))
    forced[:, 0] = FREE
    forced[T // 2 :, 1:4] = FREE
    return LoopRun(
        tokens=random.integers(0, vocabulary_size, N),
        forced=forced,
        uniform=uniform_columns(seed, T, N),
        steps=np.array([T, T, T - 3, T, T]),
        temperature=np.array([1, 0, 0.7, 1.3, 1], np.float32),
        top_k=np.zeros(N, np.int64),
        top_p=np.ones(N, np.float32),
        min_p=np.zeros(N, np.float32),
    )


def _difference(runners: tuple[Runner, Runner], states: list[State], run: LoopRun) -> float:
    """Greatest difference of what two runners write and of the states they end in."""
    (one, one_states), (other, other_states) = (_run(runner, states, run) for runner in runners)
    differences = [
        np.abs(one.tokens - other.tokens).max(),
        np.abs(one.log_probs - other.log_probs).max(),
        *(
            np.abs(state[name] - twin[name]).max()
            for state, twin in zip(one_states, other_states, strict=True)
            for name in state
        ),
    ]
    return float(np.max(differences))  # unlike max(), NaN where any is


def _run(runner: Runner, states: list[State], run: LoopRun) -> tuple[Written, list[State]]:
    slots = list(range(SLOTS))[::-1][:N]
    for slot, state in zip(slots, states, strict=True):
        runner.load(slot, state)
    return runner.run(slots, run), [runner.read(slot) for slot in slots]
