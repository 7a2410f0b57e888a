"""Everything that can be set about a load."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unroll.client.connection import DEFAULT_TARGET
from unroll.errors import SettingsError

_TEXT = Parameter(allow_leading_hyphen=True, negative=())


class Mode(Enum):
    """How a text is asked for."""

    STREAM = "stream"
    UNARY = "unary"


class Channels(Enum):
    """Who has a connection."""

    OWN = "own"  # every client
    SHARED = "shared"  # all clients of a process have one


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """Load a server with clients that ask for one text after the other, and measure it.

    Ctrl-C ends the measuring; what was measured so far is shown.
    """

    target: str = DEFAULT_TARGET
    """Address of the server, as HOST:PORT."""

    clients: int = 64
    """Clients that ask side by side."""

    mode: Mode = Mode.STREAM
    """Stream the texts, or wait for each as a whole."""

    seconds: float = 10.0
    """How long to measure."""

    warm_up: float = 1.0
    """Seconds of the same load before that, which do not count."""

    prompt: Annotated[str, _TEXT] = ""
    """Text to continue; by default the model's start symbol."""

    new_symbols: int = 200
    """Symbols to generate in each request."""

    model: str = ""
    """Name of the model; by default the server's first."""

    temperature: float | None = None
    """0 for the likeliest symbol each time, or 0.001 to 1000; by default the server's."""

    log_probs: bool = False
    """Ask for the log-probability of every symbol, too."""

    capsules: bool = True
    """Let each answer end with a capsule, as servers do by default."""

    seed: int = 1
    """The seed of the first client's first request; every request has its own, and two runs with
    the same settings ask for the same texts."""

    channels: Channels = Channels.OWN
    """Whether every client has a connection of its own, or all of a process share one."""

    processes: int = 1
    """Processes that the clients are spread over; one is enough until it is busy all the time."""

    timeout: float = 60.0
    """Seconds after which a request counts as failed."""

    json: Path | None = None
    """File for settings, figures and histograms."""

    plot: Path | None = None
    """File for a picture of the latencies, as PNG."""

    def validate(self) -> None:
        """Check every range.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        for name in ("clients", "new_symbols", "processes"):
            if getattr(self, name) < 1:
                raise self._error(name, "1 or more")
        for name in ("seconds", "timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise self._error(name, "above 0")
        for name in ("warm_up", "seed"):
            if not 0 <= getattr(self, name) < 2**62:
                raise self._error(name, "0 or more")
        if self.processes > self.clients:
            raise self._error("processes", f"at most the number of clients, {self.clients}")
        for name in ("json", "plot"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.parent.is_dir():
                raise self._error(name, "a file in a folder that exists")

    def _error(self, name: str, allowed: str) -> SettingsError:
        value = getattr(self, name)
        shown = str(value) if isinstance(value, Path) else value
        flag = name.replace("_", "-")
        return SettingsError(f"{name} = {shown!r}: must be {allowed}; change --{flag}")
