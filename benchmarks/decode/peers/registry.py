"""All peers by name."""

from benchmarks.decode.peers.jax_scan import JAX
from benchmarks.decode.peers.onnx_operators import OPERATORS
from benchmarks.decode.peers.openvino_int8 import OPENVINO_INT8
from benchmarks.decode.peers.openvino_loop import OPENVINO
from benchmarks.decode.peers.peer import Peer, QuantisedPeer
from benchmarks.decode.peers.torch_int8 import TORCH_INT8
from benchmarks.decode.peers.torch_steps import TORCH, TORCH_ON_CUDA
from serving.runtime.onnx import Device

PEERS: dict[str, Peer] = {
    "torch": TORCH,
    "operators": OPERATORS,
    "jax": JAX,
    "openvino": OPENVINO,
}
INT8_PEERS: dict[str, QuantisedPeer] = {"torch": TORCH_INT8, "openvino": OPENVINO_INT8}


def setups_of(name: str, precision: str, device: Device) -> Peer | QuantisedPeer:
    """Find a peer's setups, of which some run on the CPU alone and say so; none beside fp16."""
    if precision == "fp32":
        return TORCH_ON_CUDA if name == "torch" and device is Device.CUDA else PEERS[name]
    return INT8_PEERS.get(name, {}) if precision == "int8" else {}
