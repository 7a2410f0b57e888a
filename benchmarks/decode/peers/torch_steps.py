"""torch, one step a call, sampled in torch: the loop that a course would write.

On CUDA all products are of true float32, as the loop's are, and a step is also tried in one CUDA
graph of all steps.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from benchmarks.decode.peers.peer import START, Peer, Tokens, Work, Writer
from training.model.device import apply_precision


def one_step_a_call(step: Any, state: Any, work: Work) -> Writer:
    """Write with a step (token, u, state) -> (token, state), the tokens (N,) and u (N, 1)."""
    apply_precision("fp32")
    N, device = work.uniform.shape[1], work.device.value
    numbers = torch.from_numpy(work.uniform[..., None]).to(device)  # (T, N, 1)

    @torch.inference_mode()
    def write() -> Tokens:
        token, now = torch.full((N,), START, device=device), state
        tokens = []
        for u in numbers:
            token, now = step(token, u, now)
            tokens.append(token)
        return torch.stack(tokens).cpu().numpy()

    return write


def one_cuda_graph(step: Any, state: Any, work: Work) -> Writer:
    """Write with such a step; all of them are captured as one CUDA graph and replayed."""
    apply_precision("fp32")
    N, device = work.uniform.shape[1], work.device.value
    numbers = torch.from_numpy(work.uniform[..., None]).to(device)  # (T, N, 1)
    start = torch.full((N,), START, device=device)

    @torch.inference_mode()
    def all_steps() -> Tensor:
        token, now, tokens = start, state, []
        for u in numbers:
            token, now = step(token, u, now)
            tokens.append(token)
        return torch.stack(tokens)

    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(aside):  # what is allocated at first must not be captured
        all_steps()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        written = all_steps()

    captured = graph, all_steps  # with the tensors that the graph reads, which nobody else holds

    def write() -> Tokens:
        captured[0].replay()
        return written.cpu().numpy()

    return write


def as_it_comes(work: Work) -> Writer:
    """Write with the model as it was trained."""
    return one_step_a_call(*_trained(work), work)


def captured(work: Work) -> Writer:
    """Write with the model as it was trained, in a CUDA graph."""
    return one_cuda_graph(*_trained(work), work)


def _trained(work: Work) -> tuple[Any, Any]:
    """Return a step of the model, and its first state."""
    model = copy.deepcopy(work.model).to(work.device.value)  # others read it on the CPU

    def step(token: Tensor, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = model(token[None], state)
        return draw_in_torch(logits[0], u), state

    return step, model.zero_state(work.uniform.shape[1])


def without_onednn(work: Work) -> Writer:
    """Write with oneDNN off: on some processors its LSTM reorders the weights at every call."""
    write_with = as_it_comes(work)

    def write() -> Tokens:
        with warnings.catch_warnings():
            # flags() also sets TF32, which torch says is for Intel's GPUs.
            warnings.filterwarnings("ignore", message="TF32 acceleration")
            with torch.backends.mkldnn.flags(enabled=False):
                return write_with()

    return write


def draw_in_torch(logits: Tensor, u: Tensor) -> Tensor:
    """Sample (N, V) at u, (N, 1), by inverse CDF; (N,)."""
    cdf = torch.softmax(logits, -1).cumsum(-1)  # (N, V)
    return (cdf <= u * cdf[:, -1:]).sum(-1)


TORCH: Peer = {"as it comes": as_it_comes, "without oneDNN": without_onednn}
TORCH_ON_CUDA: Peer = {"as it comes": as_it_comes, "in a CUDA graph": captured}
