"""The messages are those of the proto, and leave the names to whoever else has them."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]

from serving.triton import inference_pb2 as pb

ROOT = Path(__file__).parents[3]
# Registers, as packages of Triton's and KServe's clients do, messages of the same names in
# protobuf's default pool; here with other fields. Then each side reads what is its own.
BESIDE = """
import sys

def theirs():
    from google.protobuf import descriptor_pool
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message_factory import GetMessageClass
    file = FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
    for name in ("ModelInferRequest", "ModelInferResponse", "InferParameter", "ModelConfig"):
        message = file.message_type.add(name=name)
        message.field.add(name="theirs", number=1, type=9, label=1)
    service = file.service.add(name="GRPCInferenceService")
    service.method.add(
        name="ModelInfer",
        input_type=".inference.ModelInferRequest",
        output_type=".inference.ModelInferResponse",
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindMessageTypeByName("inference.ModelInferRequest")
    assert GetMessageClass(found)(theirs="x").SerializeToString() == b"\\n\\1x"
    return "theirs"

def ours():
    import serving.server
    from serving.triton.inference_pb2 import ModelInferRequest
    assert ModelInferRequest(model_name="x").SerializeToString() == b"\\n\\1x"
    return "ours"

print(*[globals()[name]() for name in sys.argv[1:]])
"""


def test_descriptors_are_those_of_the_proto(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    proto = ROOT / "protos/serving/triton/inference.proto"
    arguments = ["protoc", f"-I{ROOT / 'protos'}", f"--descriptor_set_out={made}", str(proto)]
    assert protoc.main(arguments) == 0
    (file,) = FileDescriptorSet.FromString(made.read_bytes()).file
    assert pb.DESCRIPTOR.serialized_pb == file.SerializeToString()


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_messages_of_the_same_names_may_be_in_the_default_pool(order: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, *order],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == list(order), done.stderr
