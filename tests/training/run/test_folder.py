"""The folder of a run: one training at a time writes there."""

from pathlib import Path

import pytest

from training.run.folder import RunFolder
from unroll.errors import SettingsError

TAKEN = "another training writes there now; wait until it has ended, or choose another --name"


def test_folder_of_a_training_that_runs_stays_where_it_is(tmp_path: Path) -> None:
    running, other = RunFolder(tmp_path / "fog"), RunFolder(tmp_path / "fog")
    assert running.create() is None
    running.metrics.touch()
    with pytest.raises(SettingsError, match=TAKEN):
        other.create()
    with pytest.raises(SettingsError, match=TAKEN):
        other.hold()
    assert [*tmp_path.iterdir()] == [running.path]
    running.close()
    assert other.create() == tmp_path / "fog.1"
    assert (tmp_path / "fog.1" / "metrics.jsonl").exists()
    with pytest.raises(SettingsError, match=TAKEN):
        running.hold()
    other.close()


def test_folder_that_another_training_moves_aside_before_it_is_held_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, how: int) -> None:
        folder.path.rename(tmp_path / "fog.1")
        folder.path.mkdir()

    folder = RunFolder(tmp_path / "fog")
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(SettingsError, match=TAKEN):
        folder.create()
    folder.close()


def test_folder_on_a_file_system_without_locks_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", flock)
    folder = RunFolder(tmp_path / "fog")
    assert folder.create() is None
    folder.close()
