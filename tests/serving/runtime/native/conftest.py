"""The instruction sets that the loop in C++ is compiled for."""

import pytest

from serving.runtime.native import decoder as native
from serving.runtime.native import library
from tests.serving.runtime.native.bundles import SETS


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set that this processor has."""
    loaded, best = library.load()
    if SETS.index(request.param) < SETS.index(best):
        pytest.skip(f"this processor has {best} at best")
    monkeypatch.setattr(native, "load", lambda: (loaded, request.param))
    return str(request.param)
