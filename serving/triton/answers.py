"""From one message of Triton's protocol to what it asks for, and from answers to messages."""

from dataclasses import dataclass

from serving.engine.models import Models
from serving.triton import inference_pb2 as pb
from serving.triton.faces import Face, find
from serving.triton.inference import Answer
from serving.triton.request import TextRequest, check_id, fields_of, read
from serving.triton.tensors import VERSION, Parameter, read_values, write_outputs, write_parameters
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
        response = pb.ModelInferResponse(
            model_name=self.face.name, model_version=VERSION, id=self.id
        )
        parameters: dict[str, Parameter] = {FINAL: is_final}
        if answer is not None:
            outputs = {
                name: value.encode() if isinstance(value, str) else value
                for name, value in answer.outputs(self.request).items()
            }
            write_outputs(response, outputs, is_raw=self.is_raw)
            parameters |= answer.facts
        write_parameters(response, parameters)
        return response
