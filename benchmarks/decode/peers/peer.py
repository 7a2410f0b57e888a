"""What a peer is: named setups, each of which writes a text from the weights."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graph.weights import ModelWeights
from serving.runtime.onnx import Device
from training.model.model import CharRNN
from unroll.bundle.folder import Bundle
from unroll.errors import UnrollError

Tokens = NDArray[np.int64]
Writer = Callable[[], Tokens]
START = 0  # the symbol that every text is read after


class NotRunError(UnrollError):
    """A peer cannot run here; the message is the reason that the table shows."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The text to write, and what it is written from.

    Attributes:
        model: in torch.
        weights: the same in numpy, in ONNX's order of gates.
        bundle: the same, exported.
        uniform: one random number a symbol, (T, N).
        device: where to compute.
    """

    model: CharRNN
    weights: ModelWeights
    bundle: Bundle
    uniform: NDArray[np.float32]
    device: Device


Setup = Callable[[Work], Writer]
"""Makes what writes T symbols a row from the zero state and START, on one thread: (T, N)."""


Peer = Mapping[str, Setup]
"""Ways to set a peer up, by name; the fastest counts."""


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A peer in 8 bits; what it writes may be another text, so it is judged by what it reads.

    Attributes:
        write: as any peer.
        log_probs: of each symbol of a text, (T, N), which it reads after START.
    """

    write: Writer
    log_probs: Callable[[Tokens], NDArray[Any]]


QuantisedSetup = Callable[[Work], Quantised]
QuantisedPeer = Mapping[str, QuantisedSetup]


def read_after_start(text: Tokens) -> Tokens:
    """Return the symbols after which those of a text, (T, N), come."""
    return np.concatenate([np.full_like(text[:1], START), text[:-1]])


def needed(package: str) -> Any:
    """Import a package that only a peer needs.

    Raises:
        NotRunError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.split(".", maxsplit=1)[0]
        raise NotRunError(f"{name} is not installed (the extra `bench` has it)") from error


def only_on_cpu(work: Work) -> None:
    """Refuse another device.

    Raises:
        NotRunError: the device is not the processor.
    """
    if work.device is not Device.CPU:
        raise NotRunError("runs on the processor only")


def draw(logits: NDArray[np.float32], uniform: NDArray[np.float32]) -> Tokens:
    """Sample in numpy, as the loop does: inverse CDF of (N, V) at (N,); (N,)."""
    p = np.exp(logits - logits.max(-1, keepdims=True))  # (N, V)
    cdf = p.cumsum(-1)
    tokens: Tokens = (cdf <= uniform[:, None] * cdf[:, -1:]).sum(-1)
    return tokens
