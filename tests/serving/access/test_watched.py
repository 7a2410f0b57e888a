"""Files are read again when they change, and only then."""

import os
import time
from pathlib import Path

import pytest

from serving.access.watched import Watched


class Counting:
    """Reads a file and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return self.path.read_text(encoding="ascii")


@pytest.fixture
def read(tmp_path: Path) -> Counting:
    path = tmp_path / "file"
    path.write_text("one", encoding="ascii")
    return Counting(path)


def date_back(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_file_at_rest_is_read_once(read: Counting) -> None:
    date_back(read.path, 60)
    watched = Watched((read.path,), read)
    assert [watched.current() for _ in range(3)] == [("one", True), ("one", False), ("one", False)]
    assert read.times == 1


def test_change_that_the_clock_does_not_show_is_seen(read: Counting) -> None:
    watched = Watched((read.path,), read)
    changed = read.path.stat().st_mtime_ns
    assert watched.current() == ("one", True)
    read.path.write_text("two", encoding="ascii")  # as long, in the same place
    os.utime(read.path, ns=(changed, changed))
    assert watched.current() == ("two", True)


def test_file_put_in_anothers_place_is_seen_though_it_is_as_old(read: Counting) -> None:
    date_back(read.path, 60)
    times = read.path.stat().st_mtime_ns
    watched = Watched((read.path,), read)
    watched.current()
    other = read.path.with_name("other")
    other.write_text("two", encoding="ascii")
    os.utime(other, ns=(times, times))
    other.rename(read.path)
    assert watched.current() == ("two", True)


def test_failed_reading_is_tried_again(read: Counting) -> None:
    date_back(read.path, 60)
    watched = Watched((read.path,), read)
    watched.current()
    kept = read.path.rename(read.path.with_name("kept"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            watched.current()
    kept.rename(read.path)
    assert watched.current()[0] == "one"
