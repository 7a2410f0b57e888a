"""A library that is missing, damaged or of other sources is refused with advice."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serving.runtime.native import library
from tests.serving.runtime.native.bundles import needs_kernels
from unroll.errors import DeviceError

pytestmark = needs_kernels


def not_there(folder: Path) -> Path:
    """Name a library that nobody has compiled."""
    return folder / "loop.lib"


def not_a_library(folder: Path) -> Path:
    """Write a file that is no library."""
    (folder / "loop.lib").write_bytes(b"")
    return folder / "loop.lib"


def cut(folder: Path) -> Path:
    """Write the first half of a library."""
    whole = library.LIBRARY.read_bytes()
    (folder / "loop.lib").write_bytes(whole[: len(whole) // 2])
    return folder / "loop.lib"


def other(folder: Path) -> Path:
    """Take another library."""
    spec = find_spec("_ctypes")
    assert spec is not None
    assert spec.origin is not None
    return Path(shutil.copy(spec.origin, folder / "loop.lib"))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (not_there, "are not compiled; run `make kernels`"),
        (not_a_library, "is damaged; run `make kernels` again"),
        (cut, "is damaged; run `make kernels` again"),
        (other, "is damaged; run `make kernels` again"),
    ],
)
def test_missing_library_is_refused(
    make: Callable[[Path], Path], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "LIBRARY", make(tmp_path))
    with pytest.raises(DeviceError, match=problem):
        library.load()


def test_library_of_other_sources_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in library.SOURCES:
        (tmp_path / name).write_bytes((library.FOLDER / name).read_bytes() + b"\n")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    with pytest.raises(DeviceError, match=r"compiled from other sources .* run `make kernels` ag"):
        library.load()


@pytest.mark.parametrize("own", ["-O0", "-ffast-math"])
def test_library_of_other_flags_is_refused(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXXFLAGS", own)
    with pytest.raises(DeviceError, match=f"or with other flags .CXXFLAGS is '{own}' here"):
        library.load()
    monkeypatch.delenv("CXXFLAGS")
    monkeypatch.setattr(library, "FLAGS", tuple(flag.replace("O2", "O3") for flag in library.FLAGS))
    with pytest.raises(DeviceError, match="or with other flags"):
        library.load()


def test_library_that_was_compiled_anew_waits_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = ("loop.cpp", "instruction_set.cpp")
    for name in sources:
        shutil.copy(library.FOLDER / name, tmp_path)
    (tmp_path / "loop.cpp").write_text("")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "loop.lib")
    monkeypatch.setattr(library, "SOURCES", sources)
    library.build()
    library.load()
    (tmp_path / "loop.cpp").write_text("// other sources")
    library.build()
    with pytest.raises(DeviceError, match=r"was compiled anew since .* loaded it; restart"):
        library.load()


def test_source_that_does_not_compile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in library.SOURCES:
        (tmp_path / name).write_text("no C++")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "loop.lib")
    with pytest.raises(DeviceError, match=r"cannot be compiled:\n.*error"):
        library.build()
    assert not (tmp_path / "loop.lib").exists()


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "/no/such/compiler -m64", "/"])
def test_compiler_that_cannot_be_started_is_told(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "loop.lib")
    with pytest.raises(DeviceError, match="the native kernels cannot be compiled: "):
        library.build()


def test_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        library, "TemporaryDirectory", lambda **_: TemporaryDirectory(dir="/no/such")
    )
    with pytest.raises(DeviceError, match=r"the native kernels cannot be compiled: .*/no/such"):
        library.build()
