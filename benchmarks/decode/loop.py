"""The compiled loop as the benchmark calls it: all rows sample without filters."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode.peers.peer import START, Tokens, Work, Writer
from serving.runtime.decoder import FREE, LoopRun
from serving.runtime.device import DeviceRunner
from serving.runtime.kernels import Kernels, open_decoder
from serving.runtime.onnx import Device


def plain_run(uniform: NDArray[np.float32]) -> LoopRun:
    """Describe the loop run that writes one symbol a random number, (T, N)."""
    return LoopRun.plain(np.full(uniform.shape[1], START), np.full(uniform.shape, FREE), uniform)


def whole_loop(work: Work) -> Writer:
    """Write as a server's worker does on the device."""
    if work.device is Device.CPU:
        return loop_on_the_host(work, Kernels.ONNX)
    return _on_the_device(work)


def loop_on_the_host(work: Work, kernels: Kernels) -> Writer:
    """Write on the CPU.

    Raises:
        DeviceError: the native kernels cannot run here.
    """
    decoder = open_decoder(work.bundle, kernels)
    run = plain_run(work.uniform)
    state = decoder.zero_state(work.uniform.shape[1])
    return lambda: decoder.run(run, state).tokens


def _on_the_device(work: Work) -> Writer:
    """Write with a state that stays on the device: the first text from zero, each from the last."""
    N = work.uniform.shape[1]
    runner = DeviceRunner(work.bundle, work.device, N)
    run, slots = plain_run(work.uniform), list(range(N))
    for slot in slots:
        runner.load(slot, None)

    def write() -> Tokens:
        return runner.run(slots, run).tokens

    return write
