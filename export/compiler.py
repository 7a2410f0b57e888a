"""From a checkpoint to a bundle: compile both graphs, prove them, write them down."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx

from export.decode import DecodeCompiler
from export.graph import WeightFile
from export.parity import prove
from export.step import compile_step
from export.weights import ModelWeights
from serving.bundle import Bundle, describe_file, load_bundle, write_bundle
from serving.manifest import (
    DECODE,
    FORMAT_VERSION,
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
from training.checkpoint import Checkpoint

FP32 = "fp32"


def export(
    checkpoint: Checkpoint, folder: Path, on_compiled: Callable[[], None] = lambda: None
) -> Bundle:
    """Compile a checkpoint into a bundle that has proved itself against torch.

    Args:
        checkpoint: what to compile.
        folder: where the bundle shall be; one that is there is replaced.
        on_compiled: called when the graphs are written and parity begins.

    Returns:
        The bundle, read back from disk.

    Raises:
        ParityError: the graphs do not say what torch says; nothing is written.
        BundleError: there is something else than a bundle at `folder`, or it cannot be written.
    """
    model = checkpoint.model()

    def fill(draft: Path) -> Manifest:
        weights = ModelWeights.of(model)
        file = WeightFile(WEIGHTS)
        graphs = {
            STEP: compile_step(weights, file),
            DECODE: DecodeCompiler(weights, file).compile(),
        }
        file.write(draft)
        for name, graph in graphs.items():
            (draft / name).write_bytes(graph.SerializeToString(deterministic=True))
        on_compiled()
        manifest = _describe(checkpoint, weights, graphs, draft)
        seed = int(hashlib.sha256(manifest.fingerprint.encode()).hexdigest()[:15], 16)
        report = prove(Bundle(draft, manifest, checkpoint.vocabulary), model, seed)
        return replace(manifest, parity=report)

    write_bundle(folder, fill)
    return load_bundle(folder)


def _describe(
    checkpoint: Checkpoint, weights: ModelWeights, graphs: dict[str, onnx.ModelProto], draft: Path
) -> Manifest:
    """Write the manifest, but for the parity report."""
    vocabulary, metrics = checkpoint.vocabulary, checkpoint.metrics
    files = {name: describe_file(draft / name) for name in (STEP, DECODE, WEIGHTS)}
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
            layers=len(weights.layers),
            hidden_size=weights.hidden_size,
            embedding_size=checkpoint.model_settings.embedding_size,
            parameters=sum(tensor.numel() for tensor in checkpoint.weights.values()),
            precision=FP32,
        ),
        training=TrainingSummary(
            corpus=checkpoint.corpus_name,
            corpus_sha256=checkpoint.corpus_sha256,
            updates=metrics.update,
            training_loss=metrics.training_loss,
            validation_loss=metrics.validation_loss,
        ),
        parity=ParityReport(torch_version="", onnxruntime_version="", rungs=[]),
        fingerprint=fingerprint_of(vocabulary.symbols, vocabulary.start_symbol, state, files),
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
