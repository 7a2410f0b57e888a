"""Models in this process: what `unroll.load` and `unroll.load_async` return."""

from enum import Enum
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Literal, TypeVar

from serving.engine.options import EngineOptions
from serving.local.aio import AsyncLocal
from serving.local.threads import Local
from serving.runtime.kernels import Kernels, check_kernels
from serving.runtime.onnx import Device
from serving.sessions.capsule import CapsuleKeys
from unroll.client.faces.aio_face import AsyncFace
from unroll.client.faces.face import Face
from unroll.errors import SettingsError
from unroll.ranges import COUNT

E = TypeVar("E", bound=Enum)
PathOrName = str | PathLike[str]
PREFIX_BYTES = 64 * 2**20
CHUNKS_PER_SECOND = 1500.0  # of all streams together; each costs Python's lock


class LocalModel(Face):
    """A bundle that runs in this process; any number of threads may use it.

    Methods, options, results and errors are those of `Client`, and so is every bit of a text.
    Sessions live until it is closed. `load` makes it.

    Args:
        backend: runs the bundle.
    """

    def __init__(self, backend: Local) -> None:
        super().__init__(backend)


class AsyncLocalModel(AsyncFace):
    """A bundle that runs in this process, for the event loop on which it was made.

    As LocalModel, with the methods of `AsyncClient`. `load_async` makes it.

    Args:
        backend: runs the bundle.
    """

    def __init__(self, backend: AsyncLocal) -> None:
        super().__init__(backend)


def load(
    folder: PathOrName,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    workers: int = 1,
    threads: int = 1,
    kernels: Literal["onnx", "native"] = "onnx",
    slots: int = 64,
    capsule_keys: PathOrName | None = None,
) -> LocalModel:
    """Load a bundle into this process; no server is needed and none is started.

    From then on, Python's threads take turns every 0.2 ms (`sys.setswitchinterval`), so that the
    threads that compute do not wait for others.

    Args:
        folder: of the bundle, as `unroll export` writes it.
        device: where to compute.
        workers: threads that compute side by side, each with slots of its own; 1 or more.
        threads: threads of each operator, 1 or more.
        kernels: what computes: ONNX Runtime, or the native kernels, which are faster and have to be
            compiled first (`make kernels`). On the CPU they need `threads=1` and write the same
            texts.
        slots: texts that one worker computes at the same time; 1 or more.
        capsule_keys: file of the keys that sign capsules, as for `unroll serve`. By default those
            of the variable UNROLL_CAPSULE_KEYS, else a random key: then capsules are valid only
            while this model is loaded.

    Raises:
        BundleError: there is no bundle, or it is damaged.
        DeviceError: the device or the native kernels are not there.
        SettingsError: a number is out of its range, or the keys cannot be used.
    """
    make = _maker(folder, device, workers, threads, kernels, slots, capsule_keys)
    return LocalModel(Local(make))


def load_async(
    folder: PathOrName,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    workers: int = 1,
    threads: int = 1,
    kernels: Literal["onnx", "native"] = "onnx",
    slots: int = 64,
    capsule_keys: PathOrName | None = None,
) -> AsyncLocalModel:
    """Load a bundle for the running event loop; arguments and errors as `load`."""
    make = _maker(folder, device, workers, threads, kernels, slots, capsule_keys)
    return AsyncLocalModel(make())


def _maker(
    folder: PathOrName,
    device: str,
    workers: int,
    threads: int,
    kernels: str,
    slots: int,
    capsule_keys: PathOrName | None,
) -> partial[AsyncLocal]:
    for name, value in (("workers", workers), ("threads", threads), ("slots", slots)):
        if not isinstance(value, Integral) or not 1 <= value <= COUNT:
            raise SettingsError(f"{name} = {value!r}: must be a whole number, 1 or more")
    if not isinstance(folder, (str, PathLike)):
        raise SettingsError(f"folder = {folder!r}: must be a path, as a string or os.PathLike")
    chosen, computing = _one_of(Device, "device", device), _one_of(Kernels, "kernels", kernels)
    check_kernels(computing, chosen, threads)
    options = EngineOptions(
        device=chosen,
        threads=threads,
        kernels=computing,
        slots=slots,
        workers=workers,
        queue_limit=COUNT,
        chunks_per_second=CHUNKS_PER_SECOND,
        prefix_bytes=PREFIX_BYTES,
    )
    return partial(AsyncLocal, Path(folder), options, _keys(capsule_keys))


def _one_of(kind: type[E], name: str, value: str) -> E:
    known = {each.value: each for each in kind}
    if value not in known:
        raise SettingsError(f"{name} = {value!r}: must be one of {', '.join(known)}")
    return known[value]


def _keys(file: PathOrName | None) -> CapsuleKeys:
    return CapsuleKeys.load(None if file is None else Path(file))
