"""What a worker is handed of a sequence, made by the thread that submits it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Prepared(NamedTuple):
    """What a slot will hold of a sequence as it stands.

    Attributes:
        row: its numbers, a ROW.
        kinds: what it may need, of Kind.
        forced: symbols that are known, (symbols,), AHEAD at most.
        uniform: random numbers, (symbols,), as many as steps are known ahead.
    """

    row: bytes
    kinds: int
    forced: NDArray[np.int64]
    uniform: NDArray[np.float32]
