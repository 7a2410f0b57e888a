"""A bundle takes another's place at once."""

import ctypes
from pathlib import Path

import pytest

from unroll.bundle.swap import swap


class Killed(BaseException):
    """Ends a process between two steps."""


def folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "word").write_text(word, encoding="ascii")
    return path


def test_folder_is_never_missing_whenever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, place = folder(tmp_path / "draft", "new"), folder(tmp_path / "place", "old")
    moves = iter([Path.rename])

    def rename(self: Path, target: Path) -> Path:
        try:
            return next(moves)(self, target)
        except StopIteration:
            raise Killed from None

    monkeypatch.setattr(Path, "rename", rename)
    swap(draft, place)
    assert (place / "word").read_text("ascii") == "new"
    assert (draft / "word").read_text("ascii") == "old"


@pytest.mark.parametrize("knows_exchange", [True, False])
def test_folder_that_another_process_puts_there_meanwhile_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_exchange: bool
) -> None:
    draft, place = folder(tmp_path / "draft", "new"), tmp_path / "place"
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if not place.exists():
            folder(place, "another's")
            monkeypatch.setattr(Path, "rename", rename)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    if not knows_exchange:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **more: object())
    swap(draft, place)
    assert (place / "word").read_text("ascii") == "new"
    assert sorted(tmp_path.iterdir()) == [draft, place]


def test_what_cannot_be_put_there_leaves_both(tmp_path: Path) -> None:
    draft = folder(tmp_path / "draft", "new")
    with pytest.raises(FileNotFoundError):
        swap(draft, tmp_path / "missing" / "place")
    assert (draft / "word").exists()
