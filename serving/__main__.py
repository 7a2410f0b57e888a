"""The command `unroll serve`."""

import logging
import os
import sys
from collections.abc import Sequence

# gRPC's core reads it when it is imported. What it has to say are mistakes of callers, as many
# lines as they like, and it waits for whoever reads them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from serving.process import describe, new_runner, serve
from serving.processes.supervisor import Supervisor
from serving.server import Server
from serving.sessions.capsule import KEYS_VARIABLE
from serving.settings import ServerSettings
from serving.telemetry.logs import configure_logging
from unroll.cli import run

log = logging.getLogger(__name__)


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    run(ServerSettings, _serve, name="unroll serve", tokens=tokens, loose="model")


def _serve(settings: ServerSettings) -> None:
    settings.validate()
    configure_logging(settings.log_format, settings.log_level)
    if settings.outlives_its_capsules:
        log.warning(
            "no capsule keys: a random key signs capsules, which other servers and the next start "
            "refuse; give all the same keys with --capsule-keys FILE or %s",
            KEYS_VARIABLE,
        )
    with new_runner() as runner:
        if settings.processes > 1:
            runner.run(Supervisor(settings).serve(_say))
        else:
            runner.run(serve(settings, _announce))


def _announce(server: Server) -> None:
    _say(describe(server))


def _say(lines: Sequence[str]) -> None:
    sys.stdout.writelines(line + "\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
