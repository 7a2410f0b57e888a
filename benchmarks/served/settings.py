"""Everything that can be set about the served benchmark."""

import os
from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from benchmarks.models import model_settings
from unroll.errors import SettingsError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServedSettings:
    """Measure the real server beside its engine alone, in turn, on two cores.

    The engine's thread has one core; the server's other threads and the clients share the other.
    `make bench-served ARGS="--json docs/figures"` measures all that docs/performance.md shows, in
    about twelve minutes; `ARGS="--model gru-512x1 --json docs/figures"` measures one of the models,
    in about five.
    """

    model: tuple[str, ...] = ("gru-512x1", "gru-512x3")
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    clients: tuple[int, ...] = (1, 8, 64, 256)
    """Numbers of clients."""

    vocabulary: int = 66
    """Symbols V."""

    new_symbols: int = 1000
    """Symbols a request."""

    slots: int = 256
    """Sequences that the engine computes side by side, served and alone."""

    seconds: float = 4.0
    """How long each measurement takes; 1 or more, so that the process is looked at often."""

    warm_up: float = 2.0
    """Seconds of the same work before each measurement."""

    repeats: int = 3
    """Measurements of each kind; the median counts."""

    calls: int = 400
    """Calls for one character, and echoes."""

    worker_core: int = 0
    """Core of the engine's thread."""

    loop_core: int = 1
    """Core of everything else."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample, a file a model."""

    def validate(self) -> None:
        """Check what would end the measuring halfway.

        Raises:
            SettingsError: a number is out of its range, a core or a folder is not there.
        """
        for name in ("model", "clients"):
            if not getattr(self, name):
                raise SettingsError(f"{name} = (): name at least one with --{name}")
        for name in ("vocabulary", "new_symbols", "slots", "repeats", "calls"):
            self._at_least_one(name, getattr(self, name))
        self._at_least_one("clients", min(self.clients))
        for model in self.model:
            model_settings(model, self.vocabulary)
        if not 1 <= self.seconds < float("inf"):
            raise SettingsError(f"seconds = {self.seconds}: must be 1 or more; change --seconds")
        if not 0 <= self.warm_up < float("inf"):
            raise SettingsError(f"warm_up = {self.warm_up}: must be 0 or more; change --warm-up")
        usable = sorted(os.sched_getaffinity(0))
        for name in ("worker_core", "loop_core"):
            if getattr(self, name) not in usable:
                flag = name.replace("_", "-")
                raise SettingsError(
                    f"{name} = {getattr(self, name)}: this process may use the cores {usable}; "
                    f"change --{flag}"
                )
        if self.json is not None and not self.json.is_dir():
            raise SettingsError(f"json = {str(self.json)!r}: there is no such folder; make it")

    def _at_least_one(self, name: str, value: int) -> None:
        if value < 1:
            flag = name.replace("_", "-")
            raise SettingsError(f"{name} = {value}: must be 1 or more; change --{flag}")
