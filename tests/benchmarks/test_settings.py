"""Each benchmark refuses at once what would end it halfway."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decode.settings import DecodeSettings
from benchmarks.harness.machine import pin
from benchmarks.harness.settings import check_settings
from benchmarks.served.__main__ import measure
from benchmarks.served.settings import ServedSettings
from benchmarks.training.settings import TrainingBenchSettings
from serving.runtime.kernels import Kernels
from unroll.cli import read_toml, run
from unroll.client.load.settings import LoadSettings
from unroll.errors import SettingsError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOWHERE = Path("/no/such/folder/file")


def check(settings: Any) -> None:
    if isinstance(settings, DecodeSettings):
        settings.validate()
    else:
        check_settings(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DecodeSettings(batch=(4, 0)), "batch = 0: must be at least 1; change --batch"),
        (DecodeSettings(batch=()), r"batch = \(\): name at least one with --batch"),
        (DecodeSettings(vocabulary=(66, 1)), "vocabulary = 1: must be at least 2"),
        (DecodeSettings(model=("gru-512x1", "gru-512")), "must be CELL-HIDDENxLAYERS"),
        (DecodeSettings(model=("gra-512x1",)), "the cell one of"),
        (DecodeSettings(precision=("fp16",)), "precision = 'fp16': is not computed on cpu; take "),
        (
            DecodeSettings(precision=("fp32", "int8"), device="cuda"),
            "precision = 'int8': is not computed on cuda; take fp32 or fp16",
        ),
        (DecodeSettings(json=NOWHERE), r"json = '/no/such/folder/file': must be in a folder that"),
        (TrainingBenchSettings(window=1), "window = 1: must be at least 2"),
        (TrainingBenchSettings(threads=(1, 0)), "threads = 0: must be at least 1"),
        (ServedSettings(new_symbols=0), r"new_symbols = 0: .*; change --new-symbols"),
        (ServedSettings(seconds=0.5), "seconds = 0.5: must be at least 1"),
        (LoadSettings(seconds=float("inf")), "seconds = inf: must be above 0"),
        (LoadSettings(warm_up=-1.0), "warm_up = -1.0: must be at least 0; change --warm-up"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check(settings)


def test_more_processes_than_clients_are_refused() -> None:
    with pytest.raises(SettingsError, match="processes = 5: must be at most the number"):
        LoadSettings(clients=3, processes=5).validate()


@pytest.mark.parametrize("flag", ["--precision=int3", "--peer=jaxx", "--device=tpu"])
def test_names_that_are_not_known_are_refused_by_the_command_line(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(DecodeSettings, lambda _: None, name="bench", tokens=[flag])
    assert flag.split("=")[1] in capsys.readouterr().err


def test_the_whole_grid_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BENCHMARKS.parent)
    values: dict[str, Any] = read_toml(BENCHMARKS / "native.toml", DecodeSettings)
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    values |= {"json": Path(values["json"]), "kernels": Kernels(values["kernels"])}
    grid = DecodeSettings(**values)
    grid.validate()
    assert len(grid.model) * len(grid.vocabulary) * len(grid.batch) == 15


def test_a_core_that_the_process_may_not_use_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"core = 65536: this process may use the cores \[0"):
        pin(65536)
    before = os.sched_getaffinity(0)
    with pytest.raises(SettingsError, match="change --worker-core or --loop-core"):
        measure(ServedSettings(worker_core=-1))
    assert os.sched_getaffinity(0) == before
