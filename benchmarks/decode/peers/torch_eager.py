"""torch, one step a call, sampled in torch: the loop that a course would write."""

import warnings

import torch

from benchmarks.decode.peers.peer import START, NotRunError, Peer, Tokens, Work, Writer
from serving.runtime.onnx import Device


def as_it_comes(work: Work) -> Writer:
    """Write with the model as it was trained."""
    model = work.model.to(work.device.value)
    device = model.decoder.weight.device
    T, N = work.uniform.shape
    numbers = torch.from_numpy(work.uniform).to(device)

    @torch.inference_mode()
    def write() -> Tokens:
        token = torch.full((1, N), START, device=device)
        state = model.zero_state(N)
        tokens = []
        for t in range(T):
            logits, state = model(token, state)
            cdf = torch.softmax(logits[0], -1).cumsum(-1)  # (N, V)
            token = (cdf <= numbers[t][:, None] * cdf[:, -1:]).sum(-1)[None]
            tokens.append(token)
        return torch.cat(tokens).cpu().numpy()

    return write


def without_onednn(work: Work) -> Writer:
    """Write with oneDNN off: on some processors its LSTM reorders the weights at every call."""
    if work.device is not Device.CPU:
        raise NotRunError("oneDNN serves the processor only")
    write_with = as_it_comes(work)

    def write() -> Tokens:
        with warnings.catch_warnings():
            # flags() also sets TF32, which torch says is for Intel's GPUs.
            warnings.filterwarnings("ignore", message="TF32 acceleration")
            with torch.backends.mkldnn.flags(enabled=False):
                return write_with()

    return write


TORCH = Peer(name="torch", setups={"as it comes": as_it_comes, "without oneDNN": without_onednn})
