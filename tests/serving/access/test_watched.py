"""Files are read again when they change, and only then."""

import os
import time
from pathlib import Path

import pytest

from serving.access.watched import Watched
from tests.serving.running import wait_for


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


@pytest.fixture
def much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files be old, for the clock of who watches them."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)


@pytest.mark.usefixtures("much_later")
def test_file_at_rest_is_read_once(read: Counting) -> None:
    files = Watched((read.path,), read)
    assert [files.current() for _ in range(3)] == [("one", True), ("one", False), ("one", False)]
    assert read.times == 1


def touched(path: Path) -> int:
    """Change a file; return when the file system says that was."""
    path.write_text("", encoding="ascii")
    return path.stat().st_ctime_ns


@pytest.mark.usefixtures("much_later")
def test_change_that_keeps_size_and_time_is_seen(read: Counting) -> None:
    before = read.path.stat()
    files = Watched((read.path,), read)
    assert [files.current() for _ in range(2)] == [("one", True), ("one", False)]
    wait_for(lambda: touched(read.path.with_name("probe")) > before.st_ctime_ns)
    read.path.write_text("two", encoding="ascii")
    os.utime(read.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.current() == ("two", True)


def test_change_that_the_clock_does_not_show_is_seen(read: Counting) -> None:
    files = Watched((read.path,), read)
    changed = read.path.stat().st_mtime_ns
    assert files.current() == ("one", True)
    read.path.write_text("two", encoding="ascii")  # as long, in the same place
    os.utime(read.path, ns=(changed, changed))
    assert files.current() == ("two", True)


@pytest.mark.usefixtures("much_later")
def test_file_put_in_anothers_place_is_seen_though_it_is_as_old(read: Counting) -> None:
    times = read.path.stat().st_mtime_ns
    files = Watched((read.path,), read)
    files.current()
    other = read.path.with_name("other")
    other.write_text("two", encoding="ascii")
    os.utime(other, ns=(times, times))
    other.rename(read.path)
    assert files.current() == ("two", True)


@pytest.mark.usefixtures("much_later")
def test_failed_reading_is_tried_again(read: Counting) -> None:
    files = Watched((read.path,), read)
    files.current()
    kept = read.path.rename(read.path.with_name("kept"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            files.current()
    kept.rename(read.path)
    assert files.current()[0] == "one"
