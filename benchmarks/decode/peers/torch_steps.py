"""torch, one step a call, sampled in torch: the loop that a course would write; and compiled.

On CUDA all products are of true float32, as the loop's are, and a step is also tried in one CUDA
graph of all steps.
"""

import copy
import shutil
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.decode.peers.cells import Folded, advance, fold
from benchmarks.decode.peers.peer import START, NotRunError, Peer, Tokens, Work, Writer
from training.model.device import apply_precision

State = list[tuple[Tensor, ...]]


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


class _Layer(nn.Module):
    """One layer's weights."""

    def __init__(self, layer: Folded) -> None:
        super().__init__()
        for name, array in vars(layer).items():
            setattr(self, name, _parameter(array))


class Step(nn.Module):
    """One step of all layers, and the draw, as torch.compile gets it."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._cell = work.weights.cell
        self._layers = nn.ModuleList(map(_Layer, fold(work.weights)))
        self._weight = _parameter(work.weights.networks[0].decoder)
        self._bias = _parameter(work.weights.decoder_bias)

    def forward(self, token: Tensor, u: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume token, (N,), and draw the next with u, (N, 1)."""
        x, new = token, []
        for index, old in enumerate(state):
            layer: Any = self._layers[index]
            share = F.linear(x, layer.input, layer.bias) if index else layer.input[token]
            held_out, recurrent = layer.held_out, F.linear(old[0], layer.R)
            h = advance(self._cell, share, recurrent, old, held_out, torch.sigmoid, torch.tanh)
            new.append(h)
            x = h[0]
        return draw_in_torch(F.linear(x, self._weight, self._bias), u), new


def zero_state(work: Work) -> State:
    """Return the state of a Step before any symbol."""
    zero = torch.zeros(work.uniform.shape[1], work.weights.hidden_size, device=work.device.value)
    return [tuple(zero for _ in work.weights.state_names) for _ in work.weights.layers]


def compiled(work: Work) -> Writer:
    """Compile with Inductor's defaults."""
    torch._dynamo.reset()  # each point of the grid is a program of its own; this setup comes first
    return one_step_a_call(_compiled(work, {}), zero_state(work), work)


def frozen(work: Work) -> Writer:
    """Compile with the weights as constants, which Inductor may lay out anew."""
    return one_step_a_call(_compiled(work, {"freezing": True}), zero_state(work), work)


def compiled_and_captured(work: Work) -> Writer:
    """Compile with Inductor's defaults, in a CUDA graph."""
    return one_cuda_graph(_compiled(work, {}), zero_state(work), work)


def _compiled(work: Work, options: dict[str, str | int | bool | Any]) -> Any:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise NotRunError("torch.compile needs a C++ compiler; there is no g++ and no clang++")
    module = Step(work).to(work.device.value)
    return torch.compile(module, fullgraph=True, dynamic=False, options=options)


def draw_in_torch(logits: Tensor, u: Tensor) -> Tensor:
    """Sample (N, V) at u, (N, 1), by inverse CDF; (N,)."""
    cdf = torch.softmax(logits, -1).cumsum(-1)  # (N, V)
    return (cdf <= u * cdf[:, -1:]).sum(-1)


def _parameter(array: Any) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)


TORCH: Peer = {"as it comes": as_it_comes, "without oneDNN": without_onednn}
TORCH_COMPILE: Peer = {"as it comes": compiled, "weights frozen": frozen}
TORCH_ON_CUDA: Peer = {"as it comes": as_it_comes, "in a CUDA graph": captured}
TORCH_COMPILE_ON_CUDA: Peer = {
    "as it comes": compiled,
    "in a CUDA graph": compiled_and_captured,
}
