"""Stand-ins for CUDA's libraries, which run ONNX Runtime's CUDA provider without a GPU.

Where nodes are placed, what is captured, copied and allocated, and in what order, is real. Kernels
compute nothing: what is read from the device is what was copied there.
"""

import ctypes
from collections.abc import Callable

from tests.needed import without


class StandIn:
    """What the stand-ins have counted in this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.standin_device_bytes.restype = ctypes.c_size_t
        library.standin_last_capture.restype = ctypes.c_char_p
        self.device_bytes: Callable[[], int] = library.standin_device_bytes
        self.violations: Callable[[], int] = library.standin_violations
        self.captures: Callable[[], int] = library.standin_captures
        self.launches: Callable[[], int] = library.standin_launches
        self._last_capture = library.standin_last_capture

    def last_capture(self) -> list[str]:
        """List the nodes of the last graph that was captured, by the names of kernels."""
        nodes: bytes = self._last_capture()
        return nodes.decode().splitlines()


def is_standin() -> bool:
    """Whether the CUDA that is loaded computes nothing."""
    try:
        StandIn(ctypes.CDLL("libcudart.so.13"))
    except (OSError, AttributeError):
        return False
    return True


def find_standin() -> StandIn:
    """Find the stand-ins, or skip the test.

    Where REQUIRE_STANDIN=1 is set, their absence is a failure.
    """
    try:
        return StandIn(ctypes.CDLL("libcudart.so.13"))
    except (OSError, AttributeError):  # no CUDA at all, or the real one
        without("CUDA's stand-ins are not loaded: make test-cuda-structure", "REQUIRE_STANDIN")
