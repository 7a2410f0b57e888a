"""Everything that can be set about a soak."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.harness.settings import check_settings
from unroll.ranges import Range, wrong_setting


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SoakSettings:
    """Let many clients use two servers in every way while servers and clients are killed.

    Every text that reaches a client is compared with the one computed alone. The exit code is not 0
    if one differs, something leaks, an error comes that should not, or something was not tried.
    """

    minutes: Annotated[float, Range(above=0)] = 1.0
    """How long, without the start and the end; ten more at most if something has not been tried by
    then."""

    bundle: Path | None = None
    """Folder of the model; by default a small LSTM of random weights."""

    clients: Annotated[int, Range(1)] = 24
    """Clients that ask side by side."""

    processes: Annotated[int, Range(1)] = 3
    """Processes that the clients are spread over; they are killed, too."""

    life_seconds: Annotated[float, Range(above=0)] = 4.0
    """A server is left alone for half to one and a half times so long before it is killed, a
    process of clients for twice that. The second server is killed in the first half of the time
    only, the first in the first four fifths, so that what leaks has time to show."""

    seed: int = 1
    """Of the plan: what each client asks for, and who is killed after how long."""

    json: Path | None = None
    """File for the report."""

    def validate(self) -> None:
        """Check every range; a SettingsError names the setting, its value and the range."""
        check_settings(self)
        if self.processes > self.clients:
            allowed = f"at most the number of clients, {self.clients}"
            raise wrong_setting("processes", self.processes, allowed)
