"""torch.compile of one step with the sampler, one step a call."""

import shutil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.decode.peers.cells import Folded, advance, fold
from benchmarks.decode.peers.peer import START, NotRunError, Peer, Tokens, Work, Writer

State = list[tuple[Tensor, ...]]


class _Layer(nn.Module):
    """One layer's weights."""

    def __init__(self, layer: Folded) -> None:
        super().__init__()
        self.input = _parameter(layer.input)
        self.bias = _parameter(layer.bias)
        self.R = _parameter(layer.R)
        self.held_out = _parameter(layer.held_out)


class Step(nn.Module):
    """One step of all layers, and the draw."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._cell = work.weights.cell
        self._layers = nn.ModuleList(map(_Layer, fold(work.weights)))
        self._weight = _parameter(work.weights.networks[0].decoder)
        self._bias = _parameter(work.weights.decoder_bias)

    def forward(self, token: Tensor, u: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume token, (N,), and draw the next with u, (N, 1)."""
        x, new = token, []
        for index, (layer, old) in enumerate(zip(self._layers, state, strict=True)):
            assert isinstance(layer, _Layer)
            share = F.linear(x, layer.input, layer.bias) if index else layer.input[token]
            recurrent = F.linear(old[0], layer.R)
            new.append(
                advance(
                    self._cell, share, recurrent, old, layer.held_out, torch.sigmoid, torch.tanh
                )
            )
            x = new[-1][0]
        cdf = torch.softmax(F.linear(x, self._weight, self._bias), -1).cumsum(-1)  # (N, V)
        return (cdf <= u * cdf[:, -1:]).sum(-1), new


def _parameter(array: Any) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)


def as_it_comes(work: Work) -> Writer:
    """Compile with Inductor's defaults."""
    torch._dynamo.reset()  # each point of the grid is a program of its own; this setup comes first
    return _compiled(work, {})


def frozen(work: Work) -> Writer:
    """Compile with the weights as constants, which Inductor may lay out anew."""
    return _compiled(work, {"freezing": True})


def _compiled(work: Work, options: dict[str, bool]) -> Writer:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise NotRunError("torch.compile needs a C++ compiler; there is no g++ and no clang++")
    module = Step(work).to(work.device.value)
    step = torch.compile(module, fullgraph=True, dynamic=False, options={**options})
    return one_step_a_call(step, work)


def one_step_a_call(step: Any, work: Work) -> Writer:
    """Write with a step, compiled or not."""
    N, device = work.uniform.shape[1], work.device.value
    numbers = torch.from_numpy(work.uniform[..., None]).to(device)  # (T, N, 1)
    zero = torch.zeros(N, work.weights.hidden_size, device=device)

    @torch.inference_mode()
    def write() -> Tokens:
        token = torch.full((N,), START, device=device)
        state = [tuple(zero for _ in work.weights.state_names) for _ in work.weights.layers]
        tokens = []
        for u in numbers:
            token, state = step(token, u, state)
            tokens.append(token)
        return torch.stack(tokens).cpu().numpy()

    return write


TORCH_COMPILE = Peer(
    name="torch.compile",
    setups={"as it comes": as_it_comes, "weights frozen": frozen},
)
