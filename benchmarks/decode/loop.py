"""The compiled loop as the benchmark calls it: all rows sample without filters."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode.peers.peer import START, Tokens, Work, Writer
from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.device.runner import DeviceRunner
from serving.runtime.host import Runner
from serving.runtime.kernels import Kernels, open_decoder
from serving.runtime.native_cuda.runner import NativeRunner
from serving.runtime.onnx import Device


def plain_run(uniform: NDArray[np.float32]) -> LoopRun:
    """Describe the loop run that writes one symbol a random number, (T, N)."""
    return LoopRun.plain(np.full(uniform.shape[1], START), np.full(uniform.shape, FREE), uniform)


def whole_loop(work: Work) -> Writer:
    """Write as a server's worker does on the device."""
    if work.device is Device.CPU:
        return _on_the_host(work, Kernels.ONNX)
    return _with(DeviceRunner(work.bundle, work.device, work.uniform.shape[1]), work)


def native_loop(work: Work) -> Writer:
    """Write so by the native kernels.

    Raises:
        DeviceError: they cannot run here.
    """
    if work.device is Device.CPU:
        return _on_the_host(work, Kernels.NATIVE)
    decoder = Decoder(work.bundle, Device.CPU)
    return _with(NativeRunner(work.bundle, decoder, work.uniform.shape[1]), work)


def read_by_the_loop(work: Work, text: Tokens) -> NDArray[np.float32]:
    """Return the log-probabilities of a text's symbols, (T, N), from zero states."""
    decoder, (_, N) = Decoder(work.bundle, Device.CPU), text.shape
    run = LoopRun.plain(np.full(N, START), text, np.zeros(text.shape, np.float32))
    return decoder.run(run, decoder.zero_state(N)).log_probs


def _on_the_host(work: Work, kernels: Kernels) -> Writer:
    decoder = open_decoder(work.bundle, kernels)
    run = plain_run(work.uniform)
    state = decoder.zero_state(work.uniform.shape[1])
    return lambda: decoder.run(run, state).tokens


def _with(runner: Runner, work: Work) -> Writer:
    """Write with a state that stays on the device: the first text from zero, each from the last."""
    run, slots = plain_run(work.uniform), list(range(runner.capacity))
    for slot in slots:
        runner.load(slot, None)

    def write() -> Tokens:
        return runner.run(slots, run).tokens

    return write
