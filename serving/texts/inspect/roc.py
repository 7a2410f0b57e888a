"""The area under the ROC curve: how well a value tells where something holds."""

import numpy as np
from numpy.typing import NDArray


def areas(values: NDArray[np.float32], holds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each unit how often it is higher where something holds than where it does not.

    Of all pairs of such places; equal values count half. That is the statistic of Mann and Whitney
    (Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic
    (ROC) curve", Radiology 143, 1982), exactly.

    Args:
        values: of the units at each place, (places, units), finite.
        holds: (places,), with both values.
    """
    where, elsewhere = values[holds].T, np.sort(values[~holds].T, axis=1)
    pairs = where.shape[1] * elsewhere.shape[1]
    twice = [
        int(np.searchsorted(low, high, "left").sum() + np.searchsorted(low, high, "right").sum())
        for high, low in zip(where, elsewhere, strict=True)
    ]
    return np.array([each / (2 * pairs) for each in twice], np.float64)
