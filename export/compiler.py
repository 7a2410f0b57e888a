"""From a checkpoint to a bundle: compile the graphs, prove them, write them down."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from export.graph.arithmetic import Arithmetic, Precision, open_arithmetic
from export.graph.graph import WeightFile
from export.graph.weights import ModelWeights
from export.loop.decode import compile_decode
from export.loop.inspection import compile_inspect
from export.loop.reading import compile_read
from export.loop.step import compile_step
from export.loop.unrolled import compile_unrolled
from export.proof.comparison import TOLERANCES
from export.proof.int8_reference import Int8Reference
from export.proof.parity import prove
from export.proof.quality import Texts, measure_scales
from export.proof.unrolled_parity import prove_unrolled
from serving.runtime.onnx import Device
from training.model.model import CharRNN
from training.run.checkpoint import Checkpoint
from unroll.bundle.files import describe
from unroll.bundle.folder import Bundle, load_bundle, write_bundle
from unroll.bundle.manifest import (
    DECODES,
    FORMAT_VERSION,
    INSPECT,
    READ,
    STEP,
    WEIGHTS,
    GraphSpec,
    Manifest,
    ModelSummary,
    ParityReport,
    StateTensor,
    TensorSpec,
    TrainingSummary,
    fingerprint_of,
)
from unroll.errors import DeviceError, SettingsError
from unroll.machine import available_memory

COPIES = 16  # of the weights at most: torch's, files', the graphs', ONNX Runtime's packed ones
BESIDE_WEIGHTS = 2**29  # bytes: blocks of logits, and what is needed for any model


def export(
    checkpoint: Checkpoint,
    folder: Path,
    on_compiled: Callable[[], None] = lambda: None,
    *,
    device: Device = Device.CPU,
    precision: Precision = Precision.FP32,
    texts: Texts | None = None,
) -> Bundle:
    """Compile a checkpoint into a bundle that has proved itself against torch.

    Args:
        checkpoint: what to compile.
        folder: where the bundle shall be; one that is there is replaced.
        on_compiled: called when the graphs are written and parity begins.
        device: CUDA adds the unrolled graphs; the bundle serves on the CPU as well.
        precision: of the compiled loop; step.onnx is always fp32.
        texts: what a precision below fp32 is calibrated and judged on; it needs them.

    Returns:
        The bundle, read back from disk.

    Raises:
        ParityError: the graphs do not say what torch says, or the precision costs more than 0.005
            nats per symbol; nothing is written.
        DeviceError: the machine has not the memory.
        SettingsError: the device cannot compute in the precision, or the texts that it needs are
            missing.
        BundleError: there is something else than a bundle at `folder`, or it cannot be written.
    """
    _check(device, precision, texts)
    require_memory(checkpoint, available_memory())
    model = checkpoint.model()
    model.load_state_dict(checkpoint.weights, assign=True)  # no copy of them
    weights = ModelWeights.of(model, checkpoint.vocabulary.sampled_size)
    scales = measure_scales(model, texts) if texts else []
    arithmetic = open_arithmetic(precision, scales)

    reference = Int8Reference(weights, scales) if precision is Precision.INT8 else None

    def fill(draft: Path) -> Manifest:
        graphs = _write_graphs(weights, arithmetic, device, draft)
        on_compiled()
        manifest = _describe(checkpoint, weights, precision, graphs, draft)
        bundle = Bundle(draft, manifest, checkpoint.vocabulary)
        return replace(manifest, parity=_prove(bundle, model, reference, device, precision, texts))

    write_bundle(folder, fill)
    return load_bundle(folder)


def _prove(
    bundle: Bundle,
    model: CharRNN,
    reference: Int8Reference | None,
    device: Device,
    precision: Precision,
    texts: Texts | None,
) -> ParityReport:
    seed = int(hashlib.sha256(bundle.manifest.fingerprint.encode()).hexdigest()[:15], 16)
    tolerance = TOLERANCES[precision]
    report = prove(bundle, model, seed, reference=reference, tolerance=tolerance, texts=texts)
    if device is Device.CUDA:
        unrolled = prove_unrolled(bundle, seed, tolerance)
        report = replace(report, rungs=[*report.rungs, *unrolled])
    return report


def require_memory(checkpoint: Checkpoint, available: int | None) -> None:
    """Make sure that the machine has the memory to compile and prove a model.

    Args:
        checkpoint: of the model.
        available: bytes; None where they are not known, which is no reason to refuse.

    Raises:
        DeviceError: it has not.
    """
    weights = sum(tensor.nbytes for tensor in checkpoint.weights.values())
    needed = COPIES * weights + BESIDE_WEIGHTS
    if available is not None and available < needed:
        raise DeviceError(
            f"the model's {weights / 2**20:,.0f} MiB of weights need about {needed / 2**20:,.0f} "
            f"MiB of memory to be exported, and {available / 2**20:,.0f} MiB are free; export on a "
            "larger machine, or train a smaller model"
        )


def _check(device: Device, precision: Precision, texts: Texts | None) -> None:
    if precision is not Precision.FP32 and texts is None:
        raise SettingsError(
            f"precision = {precision.value}: is calibrated and judged on the training's text; give "
            "texts, such as load_texts(checkpoint)"
        )
    if precision is Precision.INT8 and device is Device.CUDA:
        raise SettingsError(
            "precision = int8: products of 8 bits are made on the CPU; take fp16 or fp32 for cuda"
        )
    if precision is Precision.FP16 and device is Device.CPU:
        raise SettingsError(
            "precision = fp16: it is slower than fp32 on a CPU; take int8 or fp32, or --device cuda"
        )


def _write_graphs(
    weights: ModelWeights, arithmetic: Arithmetic, device: Device, folder: Path
) -> dict[str, onnx.ModelProto]:
    file = WeightFile(WEIGHTS)
    graphs = {
        STEP: compile_step(weights, file),
        **{name: compile_decode(weights, arithmetic, file, name) for name in DECODES},
        INSPECT: compile_inspect(weights, arithmetic, file),
    }
    if arithmetic.dtype is np.float32:  # else products of more rows may have other bits
        graphs[READ] = compile_read(weights, arithmetic, file)
    if device is Device.CUDA:
        graphs |= compile_unrolled(weights, arithmetic, file)
    file.write(folder)
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph.SerializeToString(deterministic=True))
    return graphs


def _describe(
    checkpoint: Checkpoint,
    weights: ModelWeights,
    precision: Precision,
    graphs: dict[str, onnx.ModelProto],
    draft: Path,
) -> Manifest:
    """Write the manifest, but for the parity report."""
    vocabulary, metrics = checkpoint.vocabulary, checkpoint.metrics
    files = {name: describe((draft / name).read_bytes()) for name in (*graphs, WEIGHTS)}
    state = [
        StateTensor(input=f"{s}_0", output=f"{s}_n", dtype="float32", shape=weights.state_shape)
        for s in weights.state_names
    ]
    return Manifest(
        format_version=FORMAT_VERSION,
        symbols=vocabulary.symbols,
        start_symbol=vocabulary.start_symbol,
        state=state,
        graphs={name: _graph_spec(graph.graph) for name, graph in graphs.items()},
        files=files,
        model=ModelSummary(
            cell=weights.cell,
            layers=checkpoint.model_settings.layers,
            members=len(weights.networks),
            hidden_size=weights.hidden_size,
            embedding_size=checkpoint.model_settings.embedding_size,
            parameters=sum(tensor.numel() for tensor in checkpoint.weights.values()),
            precision=precision.value,
        ),
        training=TrainingSummary(
            corpus=checkpoint.corpus_name,
            corpus_sha256=checkpoint.corpus_sha256,
            updates=metrics.update,
            training_loss=None if checkpoint.is_adopted else metrics.training_loss,
            validation_loss=metrics.validation_loss,
        ),
        parity=ParityReport(torch_version="", onnxruntime_version="", rungs=[]),
        fingerprint=fingerprint_of(
            vocabulary.symbols,
            vocabulary.start_symbol,
            state,
            files,
            vocabulary.form,
            vocabulary.unknown_symbol,
        ),
        text_form=vocabulary.form,
        unknown_symbol=vocabulary.unknown_symbol,
    )


def _graph_spec(graph: onnx.GraphProto) -> GraphSpec:
    return GraphSpec(
        inputs=[_tensor_spec(value) for value in graph.input],
        outputs=[_tensor_spec(value) for value in graph.output],
    )


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    return TensorSpec(name=value.name, dtype=dtype.name, shape=shape)
