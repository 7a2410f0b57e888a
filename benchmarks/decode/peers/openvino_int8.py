"""OpenVINO with weights of 8 bits, and activations too where it quantises them on the way."""

import numpy as np

from benchmarks.decode.peers.openvino_loop import open_loop
from benchmarks.decode.peers.peer import Quantised, QuantisedPeer, QuantisedSetup, Tokens, Work

# Activations that share a scale; 0: they stay float32.
GROUPS = {"weights": 0, "weights, dynamic quantisation": 32}


def compressed(group: int) -> QuantisedSetup:
    """Compress the weights."""

    def setup(work: Work) -> Quantised:
        options = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": group}
        run = open_loop(work, options, is_int8=True)
        read = open_loop(work, options, is_int8=True, is_forced=True)

        def log_probs(text: Tokens) -> np.ndarray:
            logits = read({"forced": text}, text.shape[1])["logits"].astype(np.float64)
            every = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
            return np.take_along_axis(every, text[..., None], -1)[..., 0]

        return Quantised(
            write=lambda: run({"uniform": work.uniform}, work.uniform.shape[1])["tokens_out"],
            log_probs=log_probs,
        )

    return setup


OPENVINO_INT8: QuantisedPeer = {name: compressed(group) for name, group in GROUPS.items()}
