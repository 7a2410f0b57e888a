"""Everything that can be set about a soak."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from unroll.errors import SettingsError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SoakSettings:
    """Let many clients use two servers in every way while servers and clients are killed.

    Every text that reaches a client is compared with the one computed alone. The exit code is not 0
    if one differs, something leaks, an error comes that should not, or something was not tried.
    """

    minutes: float = 1.0
    """How long, without the start and the end; two more at most if something has not been tried by
    then."""

    bundle: Path | None = None
    """Folder of the model; by default a small LSTM of random weights."""

    clients: int = 24
    """Clients that ask side by side."""

    processes: int = 3
    """Processes that the clients are spread over; they are killed, too."""

    life_seconds: float = 4.0
    """A server is left alone for half to one and a half times so long before it is killed, a
    process of clients for twice that. The second server is killed in the first half of the time
    only, the first in the first four fifths, so that what leaks has time to show."""

    seed: int = 1
    """Of the plan: what each client asks for, and who is killed after how long."""

    json: Path | None = None
    """File for the report."""

    plot: Path | None = None
    """File for a picture of the servers' memory and of the work done, as PNG."""

    def validate(self) -> None:
        """Check every range.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        for name in ("minutes", "life_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise self._error(name, "above 0")
        for name in ("clients", "processes"):
            if getattr(self, name) < 1:
                raise self._error(name, "1 or more")
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
