"""The area under the ROC curve, against its definition: all pairs, one by one."""

import numpy as np
import pytest

from serving.texts.inspect.roc import areas


@pytest.mark.parametrize("different", [1, 2, 5, 1000])
@pytest.mark.parametrize("where", [1, 7, 29])
def test_area_is_the_share_of_pairs_and_equal_ones_count_half(different: int, where: int) -> None:
    random = np.random.default_rng(different)
    values = random.integers(0, different, (30, 4)).astype(np.float32)
    holds = np.arange(30) < where
    random.shuffle(holds)
    for area, unit in zip(areas(values, holds), values.T, strict=True):
        pairs = [(a > b) + (a == b) / 2 for a in unit[holds] for b in unit[~holds]]
        assert area == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
