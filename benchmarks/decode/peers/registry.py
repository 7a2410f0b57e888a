"""All peers by name."""

from benchmarks.decode.peers.jax_scan import JAX
from benchmarks.decode.peers.onnx_operators import OPERATORS
from benchmarks.decode.peers.openvino_loop import OPENVINO
from benchmarks.decode.peers.peer import Peer
from benchmarks.decode.peers.torch_steps import TORCH, TORCH_COMPILE

PEERS: dict[str, Peer] = {
    "torch": TORCH,
    "torch.compile": TORCH_COMPILE,
    "operators": OPERATORS,
    "jax": JAX,
    "openvino": OPENVINO,
}
