"""A server that answers every Generate with a character: what a call costs without any work.

`python -m benchmarks.served.echo --port 0 --port-file FILE` runs it; it takes any free port.
"""

import asyncio
import sys
from pathlib import Path

import grpc

from serving.process import write_port
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE


async def _echo(request: pb.GenerateRequest, context: object) -> pb.GenerateResponse:
    return pb.GenerateResponse(text="e")


async def serve(port_file: Path) -> None:
    """Serve on a free port until the process ends; the port is written once it is ready."""
    generate = grpc.unary_unary_rpc_method_handler(
        _echo,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    server = grpc.aio.server()
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"Generate": generate})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_port(port_file, port)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[-1])))  # as `running` starts it
