"""The library of the native loop on CUDA: compiled from the sources beside it, and loaded."""

import ctypes
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.runtime.compiled import check_sources, digest_of, open_sealed, run_all, seal
from serving.runtime.cuda.libraries import BLAS, library_name, load_cuda
from unroll.errors import DeviceError

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "loop.lib"  # not .so, which Python would take for a module
SOURCES = ("loop.h", "platform.h", "kernels.h", "products.h", "loop.cu")
SOMETIMES = Path("/usr/local/cuda/bin/nvcc")  # where PATH does not know it
FLAGS = (
    "-std=c++17",
    "-O3",
    "-shared",
    "-cudart=shared",  # the one that ONNX Runtime uses
    "-Xcompiler=-fPIC,-Wall,-Wextra",
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",  # for later ones, whose driver compiles it
)


def compiler() -> list[str]:
    """Name NVIDIA's compiler and its options; nothing if there is none."""
    found = shutil.which("nvcc") or (str(SOMETIMES) if SOMETIMES.exists() else None)
    return shlex.split(os.environ.get("NVCC", "")) or ([found] if found else [])


def build() -> None:
    """Compile the library, in a few seconds.

    Raises:
        DeviceError: there is no compiler, or it fails.
    """
    command = compiler()
    if not command:
        raise DeviceError(
            "the native kernels for CUDA need nvcc, and there is none; install NVIDIA's toolkit, "
            "or name one in NVCC"
        )
    try:
        with TemporaryDirectory(dir=FOLDER) as folder:
            whole = Path(folder) / LIBRARY.name
            source = str(FOLDER / "loop.cu")
            run_all(
                [[*command, *FLAGS, f'-DSOURCES_DIGEST="{_digest()}"', source, "-o", str(whole)]]
            )
            seal(whole, LIBRARY)
    except OSError as error:
        raise DeviceError(f"the native kernels cannot be compiled: {error}") from error


def _digest() -> str:
    return digest_of(FOLDER, SOURCES, FLAGS)


class NativeLoop:
    """The functions of the library. They let other threads run meanwhile.

    Args:
        library: as it was loaded.
        blas: name of cuBLAS's library.
    """

    def __init__(self, library: ctypes.CDLL, blas: str) -> None:
        library.unroll_cuda_error.restype = ctypes.c_char_p
        self._library = library
        self.blas = blas.encode()

    def call(self, name: str, *arguments: object) -> None:
        """Call a function that may fail.

        Raises:
            DeviceError: it does.
        """
        if getattr(self._library, f"unroll_cuda_{name}")(*arguments):
            raise DeviceError(f"kernels = native: {self._library.unroll_cuda_error().decode()}")


class Made:
    """A model, runner or batch that the library has made; freed with its last reference.

    Args:
        loop: the library.
        kind: what it is.
        arguments: of the function that opens it; the pointer to what is made comes last but
            `after`.
        after: further arguments.
        needs: what must live as long.
    """

    def __init__(
        self,
        loop: NativeLoop,
        kind: str,
        *arguments: object,
        after: tuple[object, ...] = (),
        needs: object = None,
    ) -> None:
        self.pointer = ctypes.c_void_p()
        self.loop, self._kind, self._needs = loop, kind, needs
        loop.call(f"open_{kind}", *arguments, ctypes.byref(self.pointer), *after)

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.pointer.value and not is_ending():  # a process that ends frees all
            self.loop.call(f"close_{self._kind}", self.pointer)


@cache
def load() -> NativeLoop:
    """Load the library and what it needs.

    Raises:
        DeviceError: it is not compiled, or otherwise than now, or CUDA is not there.
    """
    load_cuda()
    library = open_sealed(LIBRARY, needs="NVIDIA's nvcc")
    library.unroll_cuda_sources_digest.restype = ctypes.c_char_p
    check_sources(library.unroll_cuda_sources_digest().decode(), _digest(), LIBRARY)
    return NativeLoop(library, library_name(BLAS))
