"""The library of the native loop: compiled from the sources beside it, and loaded."""

import ctypes
import os
import platform
import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.runtime.compiled import check_sources, digest_of, open_sealed, run_all, seal
from unroll.errors import DeviceError

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "loop.lib"  # not .so, which Python would take for a module
SOURCES = (
    "vector.h",
    "activations.h",
    "softmax.h",
    "buffer.h",
    "loop.h",
    "layers.h",
    "amx.h",
    "tiled_layers.h",
    "filters.h",
    "drawing.h",
    "alternatives.h",
    "loop.cpp",
    "instruction_set.cpp",
)
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
LANES = {"amx": 16, "avx512vnni": 16, "avx2": 8}
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
    common = [*compiler, *FLAGS, *_own_flags(), f'-DSOURCES_DIGEST="{_digest()}"']
    try:
        _compile(common)
    except OSError as error:
        raise DeviceError(f"the native kernels cannot be compiled: {error}") from error


def _compile(common: list[str]) -> None:
    with TemporaryDirectory(dir=FOLDER) as folder:
        parts = [Path(folder) / f"{name}.o" for name in (*FLAGS_OF, "instruction_set")]
        run_all(
            [
                *(
                    [*common, *flags, "-c", str(FOLDER / "loop.cpp"), "-o", str(part)]
                    for part, flags in zip(parts, FLAGS_OF.values(), strict=False)
                ),
                [*common, "-c", str(FOLDER / "instruction_set.cpp"), "-o", str(parts[-1])],
            ]
        )
        whole = Path(folder) / LIBRARY.name
        run_all([[*common, "-shared", *map(str, parts), "-o", str(whole)]])
        seal(whole, LIBRARY)


def _own_flags() -> list[str]:
    return shlex.split(os.environ.get("CXXFLAGS", ""))


def _digest() -> str:
    return digest_of(FOLDER, SOURCES, [*FLAGS, *_own_flags(), *map(str, FLAGS_OF.items())])


def load() -> tuple[ctypes.CDLL, str]:
    """Load the library; return it and the instruction set to use.

    Raises:
        DeviceError: it is not compiled, or from other sources or with other flags, or the
            processor has none of the instruction sets.
    """
    library = open_sealed(LIBRARY, needs="g++")
    for function in (library.unroll_instruction_set, library.unroll_sources_digest):
        function.restype = ctypes.c_char_p
    check_sources(library.unroll_sources_digest().decode(), _digest(), LIBRARY)
    instruction_set = library.unroll_instruction_set().decode()
    if not instruction_set:
        raise DeviceError(
            "kernels = native: need a processor with AVX2 and FMA, which this one has not; take "
            "--kernels onnx"
        )
    return library, instruction_set
