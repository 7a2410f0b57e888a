"""Graph sessions: ONNX Runtime's, on the device that was asked for or not at all."""

import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import onnxruntime as ort

from serving.runtime.cuda.captures import CAPTURES
from serving.runtime.cuda.libraries import load_cuda
from serving.runtime.initializers import external_initializers
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import WEIGHTS, GraphSpec
from unroll.errors import BundleError, DeviceError, installing

Provider = str | tuple[str, dict[str, str]]
ONNX_NAME = {"int64": "tensor(int64)", "float32": "tensor(float)", "float16": "tensor(float16)"}
WARNING = 2
ERROR = 3


class Device(Enum):
    """Where a graph is computed."""

    CPU = "cpu"
    CUDA = "cuda"

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider."""
        return {Device.CPU: "CPUExecutionProvider", Device.CUDA: "CUDAExecutionProvider"}[self]


@dataclass(frozen=True, kw_only=True)
class GraphFiles:
    """A graph and its weights, as they were read; nothing is looked up on disk again.

    Attributes:
        path: where the graph lay, for messages.
        graph: the ONNX file.
        weights: its external data, which it calls `weights.bin`; empty for none.
    """

    path: Path
    graph: bytes
    weights: bytes = b""

    @classmethod
    def of(cls, bundle: Bundle, name: str) -> "GraphFiles":
        """Read one graph of a bundle; see Bundle.read."""
        return cls(path=bundle.folder / name, graph=bundle.read(name), weights=bundle.read(WEIGHTS))


def open_bundle_graphs(
    bundle: Bundle, names: Iterable[str], open_one: Callable[[GraphFiles], ort.InferenceSession]
) -> list[ort.InferenceSession]:
    """Open some graphs of a bundle from bytes that are what its manifest describes.

    Args:
        bundle: whose graphs.
        names: of their files.
        open_one: opens one, as `open_graph_session` or `open_fixed_graph_session` does.

    Raises:
        BundleError: a file is not, or is no more, the one that the manifest describes, or ONNX
            Runtime cannot load it.
        DeviceError: the device is not there, or cannot run every node.
    """
    weights = bundle.read(WEIGHTS)
    opened = []
    for name in names:
        path = bundle.folder / name
        opened.append(open_one(GraphFiles(path=path, graph=bundle.read(name), weights=weights)))
        check_tensors(path, opened[-1], bundle.manifest.graphs[name])
    return opened


def open_graph_session(files: GraphFiles, device: Device, threads: int) -> ort.InferenceSession:
    """Load a graph; on CUDA, what has no place on the device runs on the host.

    Args:
        files: the graph.
        device: where to compute.
        threads: threads of one operator on the CPU, 1 or more.

    Raises:
        DeviceError: the graph session did not get the device. (The list of available providers does
            not tell: a build with CUDA lists it on a machine without a GPU.)
        BundleError: ONNX Runtime cannot load the graph.
    """
    options = _options(files, device, threads)
    providers: list[Provider] = [_provider(device)]
    if device is Device.CUDA:
        providers.append(Device.CPU.provider)  # shapes and loop conditions live on the host
        return _open(files, device, options, providers)
    weights = _weights_in_place(files)
    for name, value in weights.items():
        options.add_initializer(name, value)
    graph_session = _open(files, device, options, providers)
    graph_session.weights = weights  # it reads them for as long as it lives
    return graph_session


def _weights_in_place(files: GraphFiles) -> dict[str, ort.OrtValue]:
    """Let a graph session read weights where they lie, so that graphs share them.

    Of 70,000 symbols, each graph of a GRU 384x1 would have 430 MB of its own.
    """
    if not files.weights:
        return {}
    weights = np.frombuffer(files.weights, np.uint8)
    try:
        return {
            each.name: ort.OrtValue.ortvalue_from_numpy(
                weights[each.offset : each.offset + each.length]
                .view(each.dtype)
                .reshape(each.shape)
            )
            for each in external_initializers(files.graph)
        }
    except (IndexError, KeyError, StopIteration, ValueError):
        return {}  # ONNX Runtime says what is wrong with the file


def open_fixed_graph_session(
    files: GraphFiles,
    device: Device,
    threads: int,
    give_weights: Callable[[str, ort.SessionOptions], None] = lambda name, options: None,
) -> ort.InferenceSession:
    """Load a graph whose inputs and outputs will be bound to fixed places, all on the device.

    On CUDA its runs are captured as CUDA graphs, one for each `gpu_graph_id` and thread.

    Args:
        files: the graph.
        device: where to compute.
        threads: threads of one operator on the CPU, 1 or more.
        give_weights: tells the options where a graph's weights lie, as DeviceWeights.give does; by
            default the graph session has its own.

    Raises:
        DeviceError: the device is not there, or cannot run every node.
        BundleError: ONNX Runtime cannot load the graph.
    """
    options = _options(files, device, threads)
    give_weights(files.path.name, options)
    if device is Device.CUDA:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return _open(files, device, options, [_provider(device, enable_cuda_graph="1")])


def check_tensors(path: Path, graph_session: ort.InferenceSession, described: GraphSpec) -> None:
    """Check that a graph's inputs and outputs are what the manifest says.

    Raises:
        BundleError: they are not.
    """
    for kind, found, specs in (
        ("inputs", graph_session.get_inputs(), described.inputs),
        ("outputs", graph_session.get_outputs(), described.outputs),
    ):
        actual = [(arg.name, arg.type, list(arg.shape)) for arg in found]
        expected = [(spec.name, ONNX_NAME.get(spec.dtype), spec.shape) for spec in specs]
        if actual != expected:
            raise BundleError(f"{path}: its {kind} are {actual}, the manifest says {expected}")


def _open(
    files: GraphFiles, device: Device, options: ort.SessionOptions, providers: list[Provider]
) -> ort.InferenceSession:
    with CAPTURES.opening() if device is Device.CUDA else nullcontext():
        try:
            graph_session = ort.InferenceSession(files.graph, options, providers=providers)
        except Exception as error:  # its exception classes share no base of their own
            traceback.clear_frames(error.__traceback__)  # frees what it allocated here, not later
            if "fallback to CPU EP has been explicitly disabled" in str(error):
                raise DeviceError(
                    f"{files.path}: {device.value} cannot run the whole graph, or is not "
                    f"available: {error}; check the driver and the CUDA libraries, or ask for cpu"
                ) from error
            raise BundleError(f"{files.path}: ONNX Runtime cannot load it: {error}") from error
        if device is Device.CUDA:
            CAPTURES.free_apart(graph_session, graph_session._sess)
    got = graph_session.get_providers()
    if got[0] != device.provider:
        raise _missing(device, got)
    graph_session.disable_fallback()
    return graph_session


def require(device: Device) -> None:
    """Check that this ONNX Runtime was built for a device, and load what the device needs.

    Raises:
        DeviceError: it was not, or a library of the device is missing.
    """
    if device.provider not in ort.get_available_providers():
        raise _missing(device, ort.get_available_providers())
    if device is Device.CUDA:
        load_cuda()


def _options(files: GraphFiles, device: Device, threads: int) -> ort.SessionOptions:
    require(device)
    options = ort.SessionOptions()
    if files.weights:
        options.add_external_initializers_from_files_in_memory(
            [WEIGHTS], [files.weights], [len(files.weights)]
        )
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A missing provider is our DeviceError; ONNX Runtime need not log it as well.
    options.log_severity_level = ERROR
    return options


def _provider(device: Device, **cuda_options: str) -> Provider:
    """Name the provider. TF32 would cut fp32's products to 10 bits, so it is off.

    Memory is asked for as it is needed: each recurrent operator keeps its weights in cuDNN's order,
    and doubling steps would round 332 MB up to 507 (GRU 512x3).
    """
    if device is Device.CUDA:
        options = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
        return device.provider, options | cuda_options
    return device.provider


def _missing(device: Device, got: list[str]) -> DeviceError:
    return DeviceError(
        f"{device.value} was asked for, but ONNX Runtime {ort.__version__} has "
        f"{', '.join(got)}; run {installing('gpu')}, in an environment without onnxruntime (make "
        "setup RUNTIME=gpu), and check the driver, or ask for cpu"
    )


def runtime_name() -> str:
    """Name and version of the runtime."""
    return f"onnxruntime {runtime_version()}"


def runtime_version() -> str:
    """Version of the runtime."""
    return str(ort.__version__)
