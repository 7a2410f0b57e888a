"""A request passes the files that the docs list, in that order."""

import re
import sys
import threading
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.serving.running import serve
from training.settings import Cell
from unroll.options import GenerateOptions

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/notes/request.md"
ASKED = GenerateOptions(max_new_symbols=20, seed=3, temperature=0.5)
# Comprehensions, what reads as a value, and whether one number lies in its range.
TRIFLES = ("<", "__len__", "__contains__", "check_number")


class Recorder:
    """Notes each function of ours that begins on a server's event loop."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self._frames: set[FrameType] = set()  # of coroutines, which go on later

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if event != "call" or frame in self._frames or threading.current_thread().name != "server":
            return
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ("serving", "unroll"):
            self._frames.add(frame)
            if not frame.f_code.co_name.startswith(TRIFLES) and not is_property(path, name):
                self.begun.append((path.relative_to(ROOT).as_posix(), name))


def is_property(path: Path, name: str) -> bool:
    module = sys.modules.get(".".join(path.relative_to(ROOT).with_suffix("").parts))
    owner, _, attribute = name.rpartition(".")
    return isinstance(getattr(getattr(module, owner, None), attribute, None), property)


def listed() -> list[str]:
    """Return the files of the page's first table, each with those that the way comes back to."""
    table = PAGE.read_text(encoding="utf-8").split("Then `Engine.submit`")[0]
    rows = re.findall(r"^\|\s*(\d*)\s*\| (?:back to )?`([^`]+)` \|", table, re.MULTILINE)
    files = [file for number, file in rows if number]
    return [next(known for known in files if known.endswith(file)) for _, file in rows]


def test_request_passes_the_files_that_the_docs_list(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.server.TIDY_SECONDS", 3600.0)  # it would be on the way, by chance
    recorder = Recorder()
    threading.setprofile(recorder)
    try:
        with serve(str(tiny_bundles["gru"])) as running, running.client() as client:
            client.generate("abc", ASKED)
            recorder.begun.clear()
            "".join(piece.text for piece in client.stream("abc", ASKED))
    finally:
        threading.setprofile(None)
    files, functions = zip(*recorder.begun, strict=True)
    begins = functions.index("RpcGate.service")
    way = files[begins : functions.index("Engine.submit", begins)]
    assert [file for file, _ in groupby(way)] == listed()
