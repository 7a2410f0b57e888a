"""CUDA's libraries, loaded from NVIDIA's wheels or from the system before ONNX Runtime asks.

ONNX Runtime's own wheel holds none of them, and nothing else in the server loads them.
"""

import ctypes
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import onnxruntime as ort

from unroll.errors import DeviceError, installing

DRIVER = "libcuda.so.1"
BLAS = "libcublas.so.{cuda}"
# In this order: those that others need come first.
LIBRARIES = (
    "libcudart.so.{cuda}",
    "libcublasLt.so.{cuda}",
    BLAS,
    "libcurand.so.10",
    "libcudnn.so.9",
)
ERROR = 3


@cache
def load_cuda() -> None:
    """Load what ONNX Runtime's CUDA provider needs; once done, do nothing.

    Raises:
        DeviceError: a library is not there.
    """
    # Warnings would come for every node that writes states, and say what holds here anyway.
    ort.set_default_logger_severity(ERROR)
    with redirect_stdout(io.StringIO()):  # it prints what it misses, needed or not
        ort.preload_dlls()
    if not sys.platform.startswith("linux"):
        return  # the names below are Linux's
    if not _can_load(DRIVER):
        raise DeviceError(
            f"cuda was asked for, but {DRIVER} cannot be loaded: NVIDIA's driver is missing; "
            "install it, let the container see the GPU (docker run --gpus all), or ask for cpu"
        )
    cuda = _cuda_version()
    for name in map(library_name, LIBRARIES):
        if not _can_load(name) and not any(map(_can_load, _in_wheels(name))):
            raise DeviceError(
                f"cuda was asked for, but {name} cannot be loaded: CUDA {cuda}'s libraries are "
                f"missing; {installing('gpu')} brings them, or put their folder in "
                "LD_LIBRARY_PATH, or ask for cpu"
            )


def library_name(library: str) -> str:
    """Name a library of the CUDA for which ONNX Runtime was built."""
    return library.format(cuda=_cuda_version())


def _cuda_version() -> str:
    return str(ort.cuda_version).split(".", maxsplit=1)[0]


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _in_wheels(library: str) -> Iterator[str]:
    """Where NVIDIA's wheels hold a library; ONNX Runtime looks beside itself alone."""
    spec = find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from map(str, Path(folder).glob(f"*/lib/{library}"))
