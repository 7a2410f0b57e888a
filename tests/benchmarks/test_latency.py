"""The latency benchmark refuses at once what would end it halfway."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency import LatencySettings
from serving.errors import SettingsError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": (4, 0)}, "batch = "),
        ({"batch": ()}, "batch = "),
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"repeats": 0}, "repeats = 0"),
        ({"threads": -1}, "threads = -1"),
        ({"json": Path("/no/such/folder/x.json")}, "there is no folder"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        LatencySettings(**changes).validate()
