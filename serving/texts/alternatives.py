"""The log-probabilities of all symbols along a text, not of those in it alone.

The compiled loop tells the log-probability of the symbol that comes. So each symbol of the
vocabulary is forced in a row of its own, all from one state: what a row tells does not depend on
the rows beside it, and is bit for bit what a text with that symbol would be told. A step of the
text then costs as many rows as there are symbols; SYMBOLS_AT_ONCE bounds how long that takes.
"""

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import Decoder, LoopRun, State
from serving.runtime.onnx import Device
from serving.texts.origins import Origin
from unroll.errors import InputError

ROWS = 64  # of a loop run; with more, a row is not cheaper
STEPS = 256  # of a loop run that only reads
SYMBOLS_AT_ONCE = 64


class Walk:
    """Goes along one text.

    Args:
        origin: where the text begins.

    Raises:
        InputError: the text cannot be walked along; names the field `log_probs`.
    """

    def __init__(self, origin: Origin) -> None:
        if origin.model.provider != Device.CPU.provider:
            raise InputError(
                "log_probs", "cannot be told of alternatives by a model on this device; ask for 0"
            )
        if origin.snapshot is not None and len(origin.snapshot.held):
            raise InputError(
                "log_probs",
                "cannot be told of alternatives here: symbols were generated earlier and not yet "
                "delivered; ask for 0",
            )
        self._decoder: Decoder = origin.model.engine.decoder
        self._ids = np.arange(len(origin.model.bundle.vocabulary))
        if origin.snapshot is None:
            self._token = origin.model.bundle.vocabulary.start_id
            self._state = self._decoder.zero_state(1)
        else:
            self._token = origin.snapshot.token
            row = origin.model.engine.layout.unpack(origin.snapshot.state)
            self._state = {name: tensor[:, None] for name, tensor in row.items()}

    def skip(self, ids: NDArray[np.int64]) -> None:
        """Read symbols, (symbols,), and tell nothing."""
        for start in range(0, len(ids), STEPS):
            self._force(ids[start : start + STEPS, None], self._state)
            self._token = int(ids[min(start + STEPS, len(ids)) - 1])

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read symbols, (symbols,), and tell the log-probabilities at each, (symbols, V)."""
        told = np.empty((len(ids), len(self._ids)), np.float32)
        for step, token in enumerate(ids.tolist()):
            before = self._state
            for start in range(0, len(self._ids), ROWS):
                forced = self._ids[None, start : start + ROWS]
                rows = {
                    name: np.repeat(tensor, forced.shape[1], axis=1)
                    for name, tensor in before.items()
                }
                told[step, start : start + ROWS] = self._force(forced, rows)[0]
            self._token = token
        return told

    def _force(self, forced: NDArray[np.int64], state: State) -> NDArray[np.float32]:
        """Make a loop run and keep its first row's state; returns what it tells, (T, N)."""
        tokens = np.full(forced.shape[1], self._token, np.int64)
        uniform = np.zeros(forced.shape, np.float32)
        result = self._decoder.run(LoopRun.plain(tokens, forced, uniform), state)
        self._state = {name: tensor[:, :1] for name, tensor in result.state.items()}
        return result.log_probs
