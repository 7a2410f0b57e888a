"""ONNX Runtime sessions, on the device that was asked for or not at all."""

from enum import Enum
from pathlib import Path

import onnxruntime as ort

from serving.errors import BundleError, DeviceError

WARNING = 2
ERROR = 3


class Device(Enum):
    """Where a graph is computed."""

    CPU = "cpu"
    CUDA = "cuda"

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider."""
        return {Device.CPU: "CPUExecutionProvider", Device.CUDA: "CUDAExecutionProvider"}[self]


def open_session(path: Path, device: Device, threads: int) -> ort.InferenceSession:
    """Load a graph.

    Args:
        path: an ONNX file; its external data lies beside it.
        device: where to compute.
        threads: threads of one operator on the CPU, 1 or more.

    Raises:
        DeviceError: the session did not get the device. (The list of available providers does
            not tell: a build with CUDA lists it on a machine without a GPU.)
        BundleError: ONNX Runtime cannot load the graph.
    """
    if device.provider not in ort.get_available_providers():
        raise _missing(device, ort.get_available_providers())
    if device is Device.CUDA and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A missing provider is our DeviceError below; ONNX Runtime need not log it as well.
    options.log_severity_level = ERROR
    providers = [device.provider]
    if device is Device.CUDA:
        providers.append(Device.CPU.provider)  # shapes and loop conditions live on the host
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exception classes share no base of their own
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    got = session.get_providers()
    if got[0] != device.provider:
        raise _missing(device, got)
    return session


def _missing(device: Device, got: list[str]) -> DeviceError:
    return DeviceError(
        f"{device.value} was asked for, but ONNX Runtime {ort.__version__} has {got}; install "
        "onnxruntime-gpu in place of onnxruntime and check the driver, or ask for cpu"
    )


def runtime_name() -> str:
    """Name and version of the runtime."""
    return f"onnxruntime {ort.__version__}"
