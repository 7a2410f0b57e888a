"""What a worker is handed of a sequence, made by the thread that submits it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Prepared(NamedTuple):
    """What a slot will hold of a sequence as it stands.

    Attributes:
        row: its numbers, a ROW.
        forced: symbols that are known, (symbols,), AHEAD at most.
        uniform: random numbers, (symbols,), as many as steps are known ahead.
        is_plain: whether nothing but its last chunk is to be made when it ends.
        is_awaited: whether somebody may wait for its first symbols.
    """

    row: bytes
    forced: NDArray[np.int64]
    uniform: NDArray[np.float32]
    is_plain: bool
    is_awaited: bool
