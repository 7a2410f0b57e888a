"""From one message of Triton's protocol to what it asks for, and from answers to messages."""

from dataclasses import dataclass
from functools import cached_property

from serving.engine.models import Models
from serving.triton import inference_pb2 as pb
from serving.triton.faces import Face, find
from serving.triton.inference import Answer
from serving.triton.request import OUTPUTS, TextRequest, check_id, fields_of, read
from serving.triton.tensors import VERSION, fill_outputs, read_values, write_parameters
from unroll.errors import InputError

FINAL = "triton_final_response"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One message's request.

    Attributes:
        face: the model that is asked.
        id: that comes back.
        request: what is asked for.
        is_raw: whether tensors came, and go, as raw contents.
    """

    face: Face
    id: str
    request: TextRequest
    is_raw: bool

    @classmethod
    def of(cls, message: pb.ModelInferRequest, models: Models) -> "Asked":
        """Read a message.

        Raises:
            InputError: what it asks for cannot be had; names the field.
        """
        face = find(models, message.model_name, message.model_version)
        for output in message.outputs:
            if output.parameters:
                raise InputError("outputs", f"{output.name:.100} must have no parameters")
        request = read(
            face.model.name,
            fields_of(read_values(message)),
            [output.name for output in message.outputs],
            is_decoupled=face.is_decoupled,
        )
        face.check(request)
        return cls(
            face=face,
            id=check_id(message.id),
            request=request,
            is_raw=bool(message.raw_input_contents),
        )

    def write(self, answer: Answer | None, *, is_final: bool) -> pb.ModelInferResponse:
        """Write an answer; None is the empty one that tells the end."""
        response = pb.ModelInferResponse()
        response.CopyFrom(self._head)
        response.parameters[FINAL].bool_param = is_final
        if answer is None:
            response.ClearField("outputs")
            return response
        fill_outputs(response, answer.outputs(self.request).values(), is_raw=self.is_raw)
        if answer.facts:
            write_parameters(response, answer.facts)
        return response

    @cached_property
    def _head(self) -> pb.ModelInferResponse:
        """What all answers have in common; to make it takes longer than to copy it."""
        output = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=self.face.name,
            model_version=VERSION,
            id=self.id,
            outputs=[
                output(name=name, datatype=kind, shape=[1])
                for name, kind in OUTPUTS.items()
                if name in self.request.outputs
            ],
        )
