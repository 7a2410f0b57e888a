"""cuDNN's recurrent layers on CUDA: set up, and seen to run."""

import os
import warnings

import torch
from torch.profiler import ProfilerActivity, profile

from training.model.model import CharRNN
from training.settings import TrainingSettings
from unroll.errors import DeviceError

OPERATORS = {"aten::_cudnn_rnn", "aten::_cudnn_rnn_backward"}
STEPS = 2


def prepare_cudnn(settings: TrainingSettings) -> None:
    """Set CUDA's libraries up so that the same training gives the same weights.

    To be called before anything runs on the device.
    """
    torch.backends.cudnn.deterministic = True
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:2")  # as torch.nn.GRU's notes ask for
    if settings.weight_dropout or settings.precision == "bf16":
        # Weights that are dropped or rounded are other tensors in every window, so that cuDNN must
        # have them copied into one piece once a window; else the warning means what it says.
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")


def require_cudnn(model: CharRNN, streams: int) -> None:
    """Run a model there and back once and see that cuDNN's recurrent layers did it.

    Weights, their gradients and torch's random numbers stay as they are.

    Args:
        model: in training mode, on the device and in the precision to train in.
        streams: N, of this process.

    Raises:
        DeviceError: something else ran, which is many times slower.
    """
    weight = model.decoder.weight
    tokens = torch.zeros((STEPS, streams), dtype=torch.int64, device=weight.device)
    devices = [weight.device] if weight.device.type == "cuda" else []
    profiling = profile(activities=[ProfilerActivity.CPU], acc_events=True)  # False warns
    with torch.random.fork_rng(devices), profiling as seen:
        logits, _ = model(tokens, model.zero_state(streams))
        torch.autograd.grad(logits.sum(), list(model.parameters()))
    version = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    missing = OPERATORS - {event.name for event in seen.events()}
    if missing:
        raise DeviceError(
            f"device = {weight.device.type!r}, precision = {model.precision!r}: cuDNN's recurrent "
            f"layers did not run ({', '.join(sorted(missing))}); torch has cuDNN "
            f"{version or 'not at all'}, and bf16 needs 91300 or later: "
            "install a torch built with it, or take --precision tf32 or --device cpu"
        )
