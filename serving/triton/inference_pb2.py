"""The messages of Triton's protocol, which inference.proto describes, as if they were generated.

They lie in a descriptor pool of their own: `tritonclient`, `kserve` and others register the same
names in protobuf's default pool, which has each name once in a process.
"""

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

_data = files("serving.triton").joinpath("inference_pb2.binpb").read_bytes()
(_file,) = FileDescriptorSet.FromString(_data).file
_pool = DescriptorPool()
_pool.AddSerializedFile(_file.SerializeToString())

DESCRIPTOR = _pool.FindFileByName(_file.name)
for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = GetMessageClass(_message)
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({value.name: value.number for value in _enum.values})
