"""A request is within its ranges."""

import numpy as np
import pytest

from serving.errors import (
    InputError,
)
from serving.sequence import SequenceRequest


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_new_symbols", {"max_new_symbols": 0}),
        ("max_new_symbols", {"max_new_symbols": -1}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("stop", {"stop": ("a",) * 9}),
        ("stop[1]", {"stop": ("a", "")}),
        ("stop[0]", {"stop": ("a" * 257,)}),
        ("buffer_symbols", {"buffer_symbols": 0}),
    ],
)
def test_request_out_of_its_range_is_refused_by_field(
    field: str, values: dict[str, object]
) -> None:
    prompt = np.zeros(0, np.int64)
    with pytest.raises(InputError) as caught:
        SequenceRequest(**({"prompt": prompt, "max_new_symbols": 1} | values))  # type: ignore[arg-type]
    assert caught.value.field == field
