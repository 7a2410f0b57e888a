"""The library of the native loop: compiled from the sources beside it, and loaded."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from unroll.errors import DeviceError

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "loop.lib"  # not .so, which Python would take for a module
DIGEST_BYTES = 32
SOURCES = ("vector.h", "activations.h", "loop.h", "loop.cpp", "instruction_set.cpp")
FLAGS = (
    "-std=c++20",
    "-O2",
    "-fPIC",
    "-ffp-contract=off",  # whatever is rounded once is rounded so in ONNX Runtime, too
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-uninitialized",  # GCC 12 takes its own intrinsics for mistakes
    "-Wno-maybe-uninitialized",
)
AVX2 = ("-mavx2", "-mfma")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")
FLAGS_OF = {"avx512vnni": (*AVX2, *AVX512), "avx2": AVX2}
LANES = {"avx512vnni": 16, "avx2": 8}
"""Numbers of 32 bits in a vector, by instruction set."""


def build() -> None:
    """Compile the library, in about half a minute.

    Raises:
        DeviceError: there is no compiler, it fails, or the processor is of another kind.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        raise DeviceError(
            f"the native kernels are for x86-64, and this machine is {platform.machine()}; take "
            "--kernels onnx"
        )
    compiler = (
        shlex.split(os.environ.get("CXX", ""))
        or [name for name in ("g++", "c++") if shutil.which(name)][:1]
    )
    if not compiler:
        raise DeviceError(
            "the native kernels need a C++ compiler, and there is no g++ and no c++; install one, "
            "or name one in CXX"
        )
    common = [*compiler, *FLAGS, f'-DSOURCES_DIGEST="{_digest()}"']
    try:
        _compile(common)
    except OSError as error:
        raise DeviceError(f"the native kernels cannot be compiled: {error}") from error


def _compile(common: list[str]) -> None:
    with TemporaryDirectory(dir=FOLDER) as folder:
        parts = [Path(folder) / f"{name}.o" for name in (*FLAGS_OF, "instruction_set")]
        _run_all(
            [
                *(
                    [*common, *flags, "-c", str(FOLDER / "loop.cpp"), "-o", str(part)]
                    for part, flags in zip(parts, FLAGS_OF.values(), strict=False)
                ),
                [*common, "-c", str(FOLDER / "instruction_set.cpp"), "-o", str(parts[-1])],
            ]
        )
        whole = Path(folder) / LIBRARY.name
        _run_all([[*common, "-shared", *map(str, parts), "-o", str(whole)]])
        with whole.open("r+b") as library:
            digest = hashlib.sha256(library.read()).digest()
            library.write(digest)  # at its end, where a loader does not look
        whole.replace(LIBRARY)


def _run_all(commands: list[list[str]]) -> None:
    """Run some commands side by side."""
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[1] for process in running]
    for process, problem in zip(running, said, strict=True):
        if process.returncode:
            raise DeviceError(f"the native kernels cannot be compiled:\n{problem.strip()}")


def _digest() -> str:
    """Digest of the sources."""
    return hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in SOURCES)).hexdigest()


def load() -> tuple[ctypes.CDLL, str]:
    """Load the library; return it and the instruction set to use.

    Raises:
        DeviceError: it is not compiled, or from other sources, or the processor has none of the
            instruction sets.
    """
    if not LIBRARY.exists():
        raise DeviceError(
            "kernels = native: they are not compiled; run `make kernels` or `python -m "
            "serving.runtime.native` (it needs g++), or take --kernels onnx"
        )
    try:
        whole = LIBRARY.read_bytes()
        if hashlib.sha256(whole[:-DIGEST_BYTES]).digest() != whole[-DIGEST_BYTES:]:
            raise OSError(f"{LIBRARY} is damaged")  # one that is cut would end the process
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise DeviceError(f"kernels = native: {error}; run `make kernels` again") from error
    for function in (library.unroll_instruction_set, library.unroll_sources_digest):
        function.restype = ctypes.c_char_p
    if library.unroll_sources_digest().decode() != _digest():
        raise DeviceError(
            "kernels = native: they were compiled from other sources; run `make kernels` again "
            "and restart"
        )
    instruction_set = library.unroll_instruction_set().decode()
    if not instruction_set:
        raise DeviceError(
            "kernels = native: need a processor with AVX2 and FMA, which this one has not; take "
            "--kernels onnx"
        )
    return library, instruction_set
