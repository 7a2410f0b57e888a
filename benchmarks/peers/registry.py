"""All peers by name."""

from benchmarks.peers.jax_scan import JAX
from benchmarks.peers.onnx_operators import OPERATORS
from benchmarks.peers.openvino_loop import OPENVINO
from benchmarks.peers.peer import Peer
from benchmarks.peers.torch_compiled import TORCH_COMPILE
from benchmarks.peers.torch_eager import TORCH

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (TORCH, TORCH_COMPILE, OPERATORS, JAX, OPENVINO)
}
