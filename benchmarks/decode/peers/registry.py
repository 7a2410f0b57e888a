"""All peers by name."""

from benchmarks.decode.peers.jax_scan import JAX
from benchmarks.decode.peers.onnx_operators import OPERATORS
from benchmarks.decode.peers.openvino_int8 import OPENVINO_INT8
from benchmarks.decode.peers.openvino_loop import OPENVINO
from benchmarks.decode.peers.peer import Peer, QuantisedPeer
from benchmarks.decode.peers.torch_int8 import TORCH_INT8
from benchmarks.decode.peers.torch_steps import (
    TORCH,
    TORCH_COMPILE,
    TORCH_COMPILE_ON_CUDA,
    TORCH_ON_CUDA,
)
from serving.runtime.onnx import Device

PEERS: dict[str, Peer] = {
    "torch": TORCH,
    "torch.compile": TORCH_COMPILE,
    "operators": OPERATORS,
    "jax": JAX,
    "openvino": OPENVINO,
}
INT8_PEERS: dict[str, QuantisedPeer] = {"torch": TORCH_INT8, "openvino": OPENVINO_INT8}


def peer_on(device: Device, name: str) -> Peer:
    """Find a peer's setups for a device; some run on the CPU alone and say so."""
    on_cuda = {"torch": TORCH_ON_CUDA, "torch.compile": TORCH_COMPILE_ON_CUDA}
    return on_cuda.get(name, PEERS[name]) if device is Device.CUDA else PEERS[name]
