"""What a served model is called in Triton's protocol, and how it is described.

    NAME           one request, one answer
    NAME_stream    decoupled: the text comes in pieces, by ModelStreamInfer
    NAME_sequence  as NAME, where every request belongs to a sequence

With NAME and NAME_stream a sequence is optional. Tools which send sequences only if the model's
configuration speaks of them, as perf_analyzer does, ask NAME_sequence. A served model whose own
name ends so is found first.
"""

from dataclasses import dataclass

from serving.engine.models import Models
from serving.engine.served import ServedModel
from serving.triton import inference_pb2 as pb
from serving.triton.request import INPUTS, OUTPUTS, TextRequest
from serving.triton.sequences import IDLE_SECONDS
from serving.triton.tensors import VERSION
from unroll.errors import InputError, UnknownModelError, shown

DECOUPLED, SEQUENCE = "_stream", "_sequence"
PLATFORM = "unroll"
_TYPES = {
    "BYTES": pb.TYPE_STRING,
    "BOOL": pb.TYPE_BOOL,
    "FP32": pb.TYPE_FP32,
    "UINT32": pb.TYPE_UINT32,
}


@dataclass(frozen=True, kw_only=True)
class Face:
    """A served model under one of its names.

    Attributes:
        model: that is served.
        name: under which it is asked.
        is_decoupled: whether a request may have more than one answer.
        is_sequence: whether every request belongs to a sequence.
    """

    model: ServedModel
    name: str
    is_decoupled: bool = False
    is_sequence: bool = False

    def check(self, request: TextRequest) -> None:
        """Check that a request belongs to a sequence, where all have to.

        Raises:
            InputError: it does not.
        """
        if self.is_sequence and request.step is None:
            raise InputError("sequence_id", f"is missing; every request to {self.name} has one")

    def metadata(self) -> pb.ModelMetadataResponse:
        """Describe its inputs and outputs."""
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=self.name,
            versions=[VERSION],
            platform=PLATFORM,
            inputs=[tensor(name=n, datatype=kind, shape=[1]) for n, kind in INPUTS.items()],
            outputs=[tensor(name=n, datatype=kind, shape=[1]) for n, kind in OUTPUTS.items()],
        )

    def config(self) -> pb.ModelConfig:
        """Describe how it is run."""
        batching = None
        if self.is_sequence:
            idle = round(IDLE_SECONDS * 1e6)
            batching = pb.ModelSequenceBatching(max_sequence_idle_microseconds=idle)
        return pb.ModelConfig(
            name=self.name,
            platform=PLATFORM,
            backend=PLATFORM,
            max_batch_size=0,
            input=[
                pb.ModelInput(
                    name=name, data_type=_TYPES[kind], dims=[1], optional=name != "text_input"
                )
                for name, kind in INPUTS.items()
            ],
            output=[
                pb.ModelOutput(name=name, data_type=_TYPES[kind], dims=[1])
                for name, kind in OUTPUTS.items()
            ],
            sequence_batching=batching,
            model_transaction_policy=pb.ModelTransactionPolicy(decoupled=self.is_decoupled),
        )


def find(models: Models, name: str, version: str = "") -> Face:
    """Find a model by the name under which it is asked; the empty one means the default.

    Raises:
        UnknownModelError: there is none, or it has no such version.
    """
    if version not in {"", VERSION}:
        raise UnknownModelError(
            "model_version", f"must be {VERSION} or empty, got {shown(version)}"
        )
    served = {model.name: model for model in models}
    if name not in served:
        for suffix in (DECOUPLED, SEQUENCE):
            if (model := served.get(name.removesuffix(suffix))) is not None:
                return Face(
                    model=model,
                    name=name,
                    is_decoupled=suffix == DECOUPLED,
                    is_sequence=suffix == SEQUENCE,
                )
    model = models.get(name)
    return Face(model=model, name=model.name)
