"""Libraries that are compiled from sources beside them: digest at the end, compared when loaded."""

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from unroll.errors import DeviceError

DIGEST_BYTES = 32


def run_all(commands: list[list[str]]) -> None:
    """Run some commands of compilers side by side.

    Raises:
        DeviceError: one fails.
        OSError: one cannot be started.
    """
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[1] for process in running]
    for process, problem in zip(running, said, strict=True):
        if process.returncode:
            raise DeviceError(f"the native kernels cannot be compiled:\n{problem.strip()}")


def digest_of(folder: Path, sources: Iterable[str], flags: Iterable[str]) -> str:
    """Digest of some sources and of the compiler's flags, in hex."""
    read = b"".join((folder / name).read_bytes() for name in sources)
    return hashlib.sha256(read + "\0".join(flags).encode()).hexdigest()


def seal(compiled: Path, library: Path) -> None:
    """Move a library to its place, its digest at the end, where a loader does not look."""
    with compiled.open("r+b") as file:
        digest = hashlib.sha256(file.read()).digest()
        file.write(digest)
    compiled.replace(library)


def open_sealed(library: Path, needs: str) -> ctypes.CDLL:
    """Load a library that `seal` has put there.

    Args:
        library: where it lies.
        needs: what compiles it.

    Raises:
        DeviceError: it is not compiled, damaged, or something that it needs is missing.
    """
    if not library.exists():
        raise DeviceError(
            "kernels = native: they are not compiled; run `make kernels` or `python -m "
            f"serving.runtime.native` (it needs {needs}), or take --kernels onnx"
        )
    try:
        whole = library.read_bytes()
        if hashlib.sha256(whole[:-DIGEST_BYTES]).digest() != whole[-DIGEST_BYTES:]:
            raise OSError(f"{library} is damaged")  # one that is cut would end the process
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise DeviceError(f"kernels = native: {error}; run `make kernels` again") from error


def check_sources(compiled_from: str, digest: str, library: Path) -> None:
    """Check that a library, which is loaded, was compiled from the sources and flags of now.

    Raises:
        DeviceError: it was not.
    """
    if compiled_from == digest:
        return
    if digest.encode() in library.read_bytes():  # a process loads one library of a name
        raise DeviceError(
            f"kernels = native: {library} was compiled anew since this process loaded it; restart"
        )
    raise DeviceError(
        "kernels = native: they were compiled from other sources or with other flags (CXXFLAGS "
        f"is {os.environ.get('CXXFLAGS', '')!r} here); run `make kernels` again with the same, and "
        "restart"
    )
