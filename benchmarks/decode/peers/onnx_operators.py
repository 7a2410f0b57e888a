"""ONNX Runtime with its own GRU, LSTM and RNN operators: step.onnx, one step a call."""

import numpy as np

from benchmarks.decode.peers.peer import START, Peer, Tokens, Work, Writer, draw
from serving.runtime.onnx import GraphFiles, open_graph_session
from unroll.bundle.manifest import STEP


def one_step_a_call(work: Work) -> Writer:
    """Write with the sampler in numpy."""
    T, N = work.uniform.shape
    graph_session = open_graph_session(GraphFiles.of(work.bundle, STEP), work.device, 1)
    tensors = work.bundle.manifest.state
    outputs = ["logits", *(tensor.output for tensor in tensors)]
    shape = (len(work.weights.layers), N, work.weights.hidden_size)
    names = [tensor.input for tensor in tensors]

    def write() -> Tokens:
        token = np.full((1, N), START)
        state = dict.fromkeys(names, np.zeros(shape, np.float32))
        tokens = []
        for t in range(T):
            logits, *last = graph_session.run(outputs, {"tokens": token, **state})
            state = dict(zip(names, last, strict=True))
            token = draw(logits[0], work.uniform[t])[None]
            tokens.append(token)
        return np.concatenate(tokens)

    return write


OPERATORS: Peer = {"one step a call": one_step_a_call}
