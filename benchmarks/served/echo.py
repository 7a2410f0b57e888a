"""A server that answers every Generate with a character: what a call costs without any work.

`python -m benchmarks.served.echo --port 0 --port-file FILE` runs it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cyclopts import Parameter

from serving.server import write_port
from unroll.cli import run
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EchoSettings:
    """Answer every Generate with one character."""

    port: int = 0
    """Port to listen on; 0 takes a free one."""

    port_file: Path = Path("port")
    """File to write the port to once the server is ready."""


async def _echo(request: pb.GenerateRequest, context: object) -> pb.GenerateResponse:
    return pb.GenerateResponse(text="e")


async def _serve(settings: EchoSettings) -> None:
    generate = grpc.unary_unary_rpc_method_handler(
        _echo,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    server = grpc.aio.server()
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"Generate": generate})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port(f"127.0.0.1:{settings.port}")
    await server.start()
    write_port(settings.port_file, port)
    await server.wait_for_termination()


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    run(EchoSettings, lambda settings: asyncio.run(_serve(settings)), name="echo", tokens=tokens)


if __name__ == "__main__":
    main()
