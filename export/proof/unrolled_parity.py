"""Do the unrolled graphs compute what the loop computes? Compared on the CPU.

What torch says of the loop then holds for them. Their products are cut otherwise, so their sums run
in another order. On CUDA yet another; the tests marked `cuda` compare that.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.proof.comparison import Tolerance, require_within
from export.proof.long_runs import uniform_columns
from serving.runtime.decoder import FREE, Decoder, LoopRun, State
from serving.runtime.device.runner import DeviceRunner
from serving.runtime.host import HostRunner, Runner, Written
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import Rung

T, N = 41, 5  # all lengths of graphs; five rows and three of padding
SLOTS = 8
# Where rounding tips a draw, a row goes on otherwise. A wrong sampler tips one of the first draws.
TIPPED = 0.5


def prove_unrolled(bundle: Bundle, seed: int, tolerance: Tolerance) -> list[Rung]:
    """Make the same loop runs through the loop and through the unrolled graphs.

    Args:
        bundle: one exported for CUDA; its manifest's parity report is not read.
        seed: for the random states and symbols.
        tolerance: how far they may be apart.

    Returns:
        For the graphs without filters and for those with them: the difference where both read the
        symbols that the loop wrote, and where each reads its own, the largest part of a row that
        follows its first other symbol.

    Raises:
        ParityError: they are further apart; says how far.
    """
    decoder = Decoder(bundle, Device.CPU)
    loop, unrolled = HostRunner(decoder, SLOTS), DeviceRunner(bundle, Device.CPU, SLOTS)
    states = _random_states(decoder, seed)
    plain = _loop_run(len(bundle.vocabulary), seed)
    with_filters = replace(
        plain,
        top_k=np.array([0, 3, 0, 0, 5]),
        top_p=np.array([1, 1, 0.8, 1, 0.9], np.float32),
        min_p=np.array([0, 0, 0, 0.1, 0.05], np.float32),
    )
    rungs = []
    for name, run in (("plain", plain), ("filters", with_filters)):
        forced, own = _apart(loop, unrolled, states, run)
        rungs += [
            Rung(
                name=f"unrolled: {name}",
                difference=forced,
                limit=tolerance.close,
                compared=f"{T} symbols x {N} rows, all outputs",
            ),
            Rung(
                name=f"unrolled: {name}, own symbols",
                difference=own,
                limit=TIPPED,
                compared=f"{T} symbols x {N} rows",
            ),
        ]
    require_within(
        rungs,
        "the unrolled graphs differ from the loop",
        "Export without --device cuda, and report this",
    )
    return rungs


def _random_states(decoder: Decoder, seed: int) -> list[State]:
    random = np.random.default_rng(seed)
    return [
        {
            name: random.uniform(-1, 1, zero[:, 0].shape).astype(zero.dtype)
            for name, zero in decoder.zero_state(1).items()
        }
        for _ in range(N)
    ]


def _apart(
    loop: HostRunner, unrolled: DeviceRunner, states: list[State], run: LoopRun
) -> tuple[float, float]:
    """Return how far the two are apart on the loop's symbols, and each on its own."""
    of_loop, loop_states = _run(loop, states, run)
    own, _ = _run(unrolled, states, run)
    forced = _run(unrolled, states, replace(run, forced=of_loop.tokens))
    return (
        _difference((of_loop, loop_states), forced, run.steps),
        _after_first_other(own, of_loop, run.steps),
    )


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


def _difference(
    one: tuple[Written, list[State]], other: tuple[Written, list[State]], steps: NDArray[np.int64]
) -> float:
    """Greatest difference of log-probabilities and states, divided by the greatest magnitude."""
    is_alive = np.arange(T)[:, None] < steps  # (T, N)
    pairs = [
        (one[0].log_probs[is_alive], other[0].log_probs[is_alive]),
        *(
            (state[name], twin[name])
            for state, twin in zip(one[1], other[1], strict=True)
            for name in state
        ),
    ]
    differences = [np.abs(a - b).max() / max(1.0, float(np.abs(a).max())) for a, b in pairs]
    return float(np.max(differences))  # unlike max(), NaN where any is


def _after_first_other(one: Written, other: Written, steps: NDArray[np.int64]) -> float:
    """Largest part of a row that follows its first symbol that differs."""
    shares = []
    for row, made in enumerate(steps):
        is_other = one.tokens[:made, row] != other.tokens[:made, row]
        shares.append((made - is_other.argmax()) / made if is_other.any() else 0.0)
    return float(max(shares))


def _run(runner: Runner, states: list[State], run: LoopRun) -> tuple[Written, list[State]]:
    slots = list(range(SLOTS))[::-1][:N]
    for slot, state in zip(slots, states, strict=True):
        runner.load(slot, state)
    return runner.run(slots, run), [runner.read(slot) for slot in slots]
