"""Reads texts with a bundle's inspect.onnx and shows what the loop holds at each symbol."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import State
from serving.runtime.likeliest import Likeliest
from serving.runtime.onnx import Device, open_bundle_graphs, open_graph_session
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import INSPECT

Units = dict[str, NDArray[np.float32]]
"""The values of all hidden units: h, and c of an LSTM, each (T, layers, hidden)."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What the loop held after each of T symbols.

    Attributes:
        log_probs: of every symbol as the next, (T, V).
        likeliest: as the next, if they were asked for.
        units: after each symbol.
        state: after the last, each tensor (layers, 1, hidden).
    """

    log_probs: NDArray[np.float32]
    likeliest: Likeliest
    units: Units
    state: State


class Inspector:
    """A bundle's inspect graph, loaded; it runs on the CPU.

    Args:
        bundle: whose graph.
        threads: threads of one operator.

    Raises:
        BundleError: the graph is not the one that the manifest describes.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        (self._graph_session,) = open_bundle_graphs(
            bundle, (INSPECT,), lambda files: open_graph_session(files, Device.CPU, threads)
        )
        self._state = bundle.manifest.state
        self._units = [tensor.input.removesuffix("_0") for tensor in self._state]

    def read(self, tokens: NDArray[np.int64], state: State, alternatives: int) -> Inspected:
        """Read symbols; threads may do so at the same time.

        Args:
            tokens: their ids, (T,), T at least 1.
            state: before them, each tensor (layers, 1, hidden).
            alternatives: how many likeliest symbols to tell, 0 to V.
        """
        outputs = ["log_probs", "alternative_ids", "alternative_log_probs", *self._units]
        feeds = {
            "tokens": tokens[:, None],
            "alternative_rows": np.zeros(1, np.int64),
            "alternative_count": np.array([alternatives]),
            **state,
        }
        last = [tensor.output for tensor in self._state]
        log_probs, ids, of_ids, *rest = self._graph_session.run([*outputs, *last], feeds)
        units, after = rest[: len(self._units)], rest[len(self._units) :]
        return Inspected(
            log_probs=log_probs[:, 0],
            likeliest=Likeliest(ids[:, 0], of_ids[:, 0]),
            units={name: held[:, :, 0] for name, held in zip(self._units, units, strict=True)},
            state={tensor.input: new for tensor, new in zip(self._state, after, strict=True)},
        )
