"""What computes the loop runs."""

from enum import Enum

from serving.runtime.decoder import Decoder
from serving.runtime.native.decoder import NativeDecoder
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.errors import SettingsError


class Kernels(Enum):
    """ONNX Runtime's, or those in C++ that `make kernels` compiles.

    On the CPU the bits are the same; on CUDA they differ as they do between the CPU and CUDA.
    """

    ONNX = "onnx"
    NATIVE = "native"


def check_kernels(kernels: Kernels, device: Device, threads: int) -> None:
    """Check that kernels fit what they are asked for with.

    Raises:
        SettingsError: native ones are to use several threads of the CPU.
    """
    if kernels is Kernels.NATIVE and device is Device.CPU and threads > 1:
        raise SettingsError(
            "kernels = native: compute with one thread for each worker; take --threads 1, and "
            "--workers for more cores"
        )


def open_decoder(bundle: Bundle, kernels: Kernels, threads: int = 1) -> Decoder:
    """Load a bundle's decode graphs on the CPU.

    Args:
        bundle: whose graphs.
        kernels: what computes; native ones use one thread.
        threads: threads of one operator.

    Raises:
        BundleError: a graph is not the one that the manifest describes.
        DeviceError: the native kernels cannot run here, or not this bundle.
    """
    if kernels is Kernels.NATIVE:
        return NativeDecoder(bundle)
    return Decoder(bundle, Device.CPU, threads)
