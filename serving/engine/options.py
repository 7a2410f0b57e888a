"""How the sequences of a model are run."""

from dataclasses import dataclass
from math import inf

from serving.runtime.kernels import Kernels
from serving.runtime.onnx import Device


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How the sequences of a model are run.

    Attributes:
        device: where to compute.
        threads: threads of one operator on the CPU, 1 or more.
        kernels: what computes the loop runs; native ones have one thread on the CPU.
        slots: rows of a worker's loop run at most, 1 or more.
        workers: threads that make loop runs side by side, 1 or more; they share the weights.
        queue_limit: sequences that may wait for a slot, 0 or more.
        run_seconds: how long a loop run may take, above 0.
        chunks_per_second: how many chunks there may be of all sequences together, above 0; text is
            gathered meanwhile, but for a sequence's first and last.
        prefix_bytes: memory for the states of prompts that were read; 0 keeps none.
    """

    device: Device = Device.CPU
    threads: int = 1
    kernels: Kernels = Kernels.ONNX
    slots: int = 64
    workers: int = 1
    queue_limit: int = 1024
    run_seconds: float = 0.01
    chunks_per_second: float = inf
    prefix_bytes: int = 0
