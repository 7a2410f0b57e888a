"""Folders of sessions that end with their server, and those that one left behind."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

import pytest

from serving.processes.scratch import scratch_folder
from serving.sessions.disk.store import DiskStore


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("unroll-sessions-*"))


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder as it is left by a server that was killed: whole, with nobody's locks."""
    with scratch_folder() as folder:
        return Path(shutil.copytree(folder, tmp_path / "unroll-sessions-left"))


def test_folder_ends_with_its_block(tmp_path: Path) -> None:
    with scratch_folder() as folder:
        (folder / "sessions.sqlite3").touch()
        assert folders(tmp_path) == [folder]
    assert folders(tmp_path) == []


def test_folder_of_a_killed_server_is_removed_by_the_next(left: Path, tmp_path: Path) -> None:
    assert folders(tmp_path) == [left]
    with scratch_folder() as folder:
        assert folders(tmp_path) == [folder]


def test_folder_in_use_stays(left: Path, tmp_path: Path) -> None:
    store = DiskStore(left)  # of a process whose supervisor was killed
    with scratch_folder() as first, scratch_folder() as second:
        assert folders(tmp_path) == sorted([first, left, second])
    store._close()


def test_folder_that_no_supervisor_made_stays(tmp_path: Path) -> None:
    (tmp_path / "unroll-sessions-of-mine").mkdir()
    with scratch_folder():
        assert len(folders(tmp_path)) == 2


@pytest.mark.parametrize("name", ["supervisor", "lock"])
def test_pipe_in_such_a_folder_is_not_waited_for(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "unroll-sessions-planted"
    folder.mkdir()
    (folder / "supervisor").touch()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with scratch_folder():
        assert len(folders(tmp_path)) == 2


def test_folder_that_is_taken_away_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []

    def flock(file: IO[bytes], how: int) -> None:
        if not taken:
            taken.append(Path(file.name).parent)
            shutil.rmtree(taken[0])
        real(file, how)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with scratch_folder() as folder:
        assert folders(tmp_path) == [folder]
    assert taken
    assert folders(tmp_path) == []
