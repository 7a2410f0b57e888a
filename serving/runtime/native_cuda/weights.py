"""A bundle's weights on the GPU: one copy for all runners of a model."""

from ctypes import byref

from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.initializers import read_initializers
from serving.runtime.native_cuda.library import Made, load
from serving.runtime.native_cuda.packing import PackedModel, pack
from serving.runtime.native_cuda.structures import CELLS, Description
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE, WEIGHTS
from unroll.errors import DeviceError

PRECISIONS = ("fp32", "fp16")


class NativeWeights:
    """The weights that the native loop reads.

    Args:
        bundle: in fp32 or fp16.

    Raises:
        BundleError: a file is not the one that the manifest describes.
        DeviceError: there is no GPU, the native loop is not compiled, or cannot run the bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        model = bundle.manifest.model
        if model.precision not in PRECISIONS:
            raise DeviceError(
                f"{bundle.folder}: kernels = native: compute {' or '.join(PRECISIONS)} on cuda, "
                f"and this bundle is {model.precision}; export the checkpoint in one of them, or "
                "take --device cpu"
            )
        self.loop = load()
        try:
            tensors = read_initializers(bundle.read(DECODE), bundle.read(WEIGHTS))
            packed = pack(tensors, model.cell, model.members, model.layers)
        except (KeyError, ValueError, IndexError) as error:
            raise DeviceError(
                f"{bundle.folder}: kernels = native: its graph is not one that they know: {error}; "
                "export it again, or take --kernels onnx"
            ) from error
        description = _describe(bundle, packed)
        with CAPTURES.opening():
            self.made = Made(self.loop, "model", byref(description), self.loop.blas)
        CAPTURES.free_apart(self, self.made)


def _describe(bundle: Bundle, packed: PackedModel) -> Description:
    model, vocabulary = bundle.manifest.model, bundle.vocabulary
    arrays = (
        packed.recurrent,
        packed.input,
        packed.table,
        packed.bias,
        packed.decoder,
        packed.decoder_bias,
    )
    return Description(
        CELLS.index(model.cell),
        model.precision == "fp16",
        model.members,
        model.layers,
        model.hidden_size,
        len(vocabulary),
        vocabulary.sampled_size,
        *(array.ctypes.data for array in arrays),
    )
