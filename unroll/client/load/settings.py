"""Everything that can be set about a load."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unroll.client.commands.server_settings import ServerSettings
from unroll.ranges import Range, wrong_setting


class Mode(Enum):
    """How a text is asked for."""

    STREAM = "stream"
    UNARY = "unary"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LoadSettings(ServerSettings):
    """Load a server with clients that ask for one text after the other, and measure it."""

    clients: Annotated[int, Range(1)] = 64
    """Clients that ask side by side, each over a connection of its own."""

    mode: Mode = Mode.STREAM
    """Stream the texts, or wait for each as a whole."""

    seconds: Annotated[float, Range(above=0)] = 10.0
    """How long to measure."""

    warm_up: Annotated[float, Range(0)] = 1.0
    """Seconds of load before the measurement, in which nothing is counted. The clients begin one
    after the other within this time, so that they do not keep in step. With 0, all begin at once.
    """

    prompt: Annotated[str, Parameter(allow_leading_hyphen=True, negative=())] = ""
    """Text to continue. Without one, each text begins at the model's start symbol."""

    new_symbols: Annotated[int, Range(1)] = 200
    """Maximum number of symbols to generate in each request."""

    model: str = ""
    """Name of the model; by default the server's first."""

    log_probs: bool = False
    """Ask for the log-probability of every symbol, too."""

    capsules: bool = True
    """Let each answer end with a capsule, as servers do by default."""

    seed: Annotated[int, Range(0, 2**62)] = 1
    """Seed of the first client's first request. Every request has a seed of its own, and two runs
    with the same settings ask for the same texts."""

    processes: Annotated[int, Range(1)] = 1
    """Number of processes that share the clients. One is enough, unless the report says that the
    generator was busy all the time."""

    timeout: Annotated[float, Range(above=0, most=30 * 86_400)] = 60.0
    """Seconds after which a request counts as failed."""

    json: Path | None = None
    """File for settings and figures."""

    def validate(self) -> None:
        """Check every range, and what would end the measuring halfway.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        super().validate()
        if self.processes > self.clients:
            allowed = f"at most the number of clients, {self.clients}"
            raise wrong_setting("processes", self.processes, allowed)
        if self.json is not None and not self.json.parent.is_dir():
            raise wrong_setting("json", str(self.json), "in a folder that exists")
