"""The command `unroll serve`."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

# gRPC's core reads it when it is imported. What it has to say are mistakes of callers, as many
# lines as they like, and it waits for whoever reads them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from serving.process import serve
from serving.runtime.onnx import runtime_name
from serving.server import Server
from serving.settings import ServerSettings
from serving.telemetry.logs import configure_logging
from unroll.bundle.manifest import architecture
from unroll.cli import run

# A worker back from a call waits for the interpreter's lock until the event loop lets go of it, by
# default up to 5 ms: 64 streams then had 0.4 of the engine's speed, with this 0.8 to 0.9.
SWITCH_SECONDS = 2e-4


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    run(ServerSettings, _serve, name="unroll serve", tokens=tokens)


def _serve(settings: ServerSettings) -> None:
    configure_logging(settings.log_format, settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        runner.run(serve(settings, _announce))


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop: uvloop's where it exists, which is not on Windows."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


def _announce(server: Server) -> None:
    for model in server.models:
        summary = model.bundle.manifest.model
        sizes = summary.cell, summary.hidden_size, summary.layers, summary.members
        _say(
            f"{model.name}: {architecture(*sizes)}, "
            f"{summary.parameters:,} parameters, {len(model.bundle.vocabulary)} symbols, "
            f"fingerprint {model.bundle.manifest.fingerprint[:12]}, {model.provider}"
        )
    over_http = f" and {server.http_address}" if server.http_address else ""
    _say(f"{runtime_name()}, listening on {server.address}{over_http}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
