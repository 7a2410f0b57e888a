"""What some tests need beside Python's packages."""

import os
import shutil
from typing import NoReturn

import pytest


def without(lack: str, variable: str) -> NoReturn:
    """Skip the test for what it lacks; where a variable is 1, that is a failure."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but {lack}")
    pytest.skip(f"{lack}; {variable}=1 makes this a failure")


def promtool() -> str:
    """Return the path of Prometheus's tool."""
    found = shutil.which("promtool")
    if found is None:
        without("promtool is not installed: apt-get install prometheus", "REQUIRE_PROMTOOL")
    return found
