"""How two computations of the same are compared, and how far apart they may be."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export.graph.arithmetic import Precision
from export.proof.reference import TIE
from serving.runtime.decoder import LoopResult, State
from unroll.bundle.manifest import Rung
from unroll.errors import ParityError

EQUAL = 0.0


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far two computations of the same may be apart.

    Attributes:
        close: difference of logits, log-probabilities and states, relative to the greatest.
        tie: difference of probabilities within which either of two symbols may come.
        typical: as `close`, of the median of states.
        row: as `close`, of a row in a batch and the same row alone.
        steps: of a long text, after which the reference goes on from the other's state. What
            rounding puts on another side grows in a model that forgets slowly.
    """

    close: float
    tie: float
    typical: float
    row: float = EQUAL
    steps: int = 250


# fp32 has 24 bits: a sum of 512 products is good to about 1e-6, and what feeds back through the
# layers and 30 steps of state to a few times that. A wrong gate or axis is off by 1e-1.
FP32 = Tolerance(close=1e-4, tie=TIE, typical=1e-4)
TOLERANCES = {
    Precision.FP32: FP32,
    # 11 bits. It is made for CUDA; the CPU multiplies single rows in another order.
    Precision.FP16: Tolerance(close=2e-2, tie=1e-2, typical=2e-2, row=2e-2),
    # An h that rounding puts on the other side of a step is off by 1/127, and what follows with it.
    Precision.INT8: Tolerance(close=5e-2, tie=2e-2, typical=1e-3, steps=8),
}


def require_within(rungs: list[Rung], what: str, advice: str) -> None:
    """Make sure that every rung is within its limit.

    Raises:
        ParityError: some are not; says what that means, which they are and what to do.
    """
    failed = [rung for rung in rungs if not rung.difference <= rung.limit]
    if failed:
        told = "; ".join(f"{r.name}: {r.difference:.3g}, limit {r.limit:g}" for r in failed)
        raise ParityError(f"{what} ({told}); nothing was written. {advice}")


def joined(parts: list[LoopResult], axis: int) -> LoopResult:
    """Join results along time (0) or the batch (1)."""
    last = parts[-1].state
    state = {name: np.concatenate([p.state[name] for p in parts], 1) for name in last}
    return LoopResult(
        tokens=np.concatenate([part.tokens for part in parts], axis),
        log_probs=np.concatenate([part.log_probs for part in parts], axis),
        state=state if axis == 1 else last,
    )


def close(name: str, difference: float, compared: str, tolerance: Tolerance = FP32) -> Rung:
    """Describe how close two computations are."""
    return Rung(name=name, difference=difference, limit=tolerance.close, compared=compared)


def equal(name: str, one: LoopResult, other: LoopResult, compared: str) -> Rung:
    """Describe two results that should be equal to the bit."""
    differences = [
        np.abs(one.tokens - other.tokens).max(),
        np.abs(one.log_probs - other.log_probs).max(),
        *(np.abs(tensor - other.state[key]).max() for key, tensor in one.state.items()),
    ]
    difference = float(np.max(differences))  # unlike max(), NaN where any is
    return Rung(name=name, difference=difference, limit=EQUAL, compared=compared)


def relative(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the greatest difference relative to the greatest magnitude, or to 1."""
    return float(np.abs(actual - expected).max() / max(1.0, float(np.abs(expected).max())))


def state_difference(actual: State, expected: dict[str, torch.Tensor]) -> float:
    """Return the greatest relative difference of two states, of the loop and of torch."""
    differences = [
        relative(tensor, expected[name.removesuffix("_0")].numpy())
        for name, tensor in actual.items()
    ]
    return float(np.max(differences))
