"""The decode benchmark refuses at once what would end it halfway."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.decode.__main__ import DecodeSettings
from benchmarks.machine import pin
from unroll.cli import read_toml
from unroll.errors import SettingsError

FULL = Path(__file__).parents[2] / "benchmarks" / "full.toml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": (4, 0)}, "batch = "),
        ({"batch": ()}, "batch = "),
        ({"vocabulary": (66, 1)}, "vocabulary = .*: must be at least 2"),
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"repeats": 0}, "repeats = 0"),
        ({"model": ("gru-512x1", "gru-512")}, "model = 'gru-512': must be CELL-HIDDENxLAYERS"),
        ({"model": ("gra-512x1",)}, "the cell one of rnn_tanh"),
        ({"precision": ("fp32", "int3")}, "precision = 'int3': must be one of fp32, int8"),
        ({"peer": ("torch", "jaxx")}, "peer = 'jaxx': unknown; did you mean 'jax'"),
        ({"json": Path("/no/such/folder")}, "there is no such folder"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        DecodeSettings(**changes).validate()


def test_the_whole_grid_of_make_bench_full_can_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(FULL.parents[1])
    values: dict[str, Any] = read_toml(FULL, DecodeSettings)
    values |= {name: tuple(values[name]) for name in ("vocabulary", "batch", "peer")}
    grid = DecodeSettings(**values | {"json": Path(values["json"])})
    grid.validate()
    assert len(grid.model) * len(grid.vocabulary) * len(grid.batch) == 40


def test_a_core_that_the_process_may_not_use_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"core = 65536: this process may use the cores \[0"):
        pin(65536)
