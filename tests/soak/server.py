"""One of the two servers: a process that is killed and started again on its ports."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from serving.sessions.capsule import KEYS_VARIABLE

HOST = "127.0.0.1"
MODEL, OTHER = "soak", "other"  # the bundle of the second one is exchanged
MESSAGE_BYTES = 2**20
# Less than the clients ask for, so that requests wait, streams pause, sessions leave the memory and
# connections grow old.
LIMITS = {
    "slots": 8,
    "buffer-symbols": 256,
    "sessions-in-memory": 16,
    "session-spill-seconds": 1,
    "prefix-cache-mb": 1,
    "grace-seconds": 0.3,
    "max-connection-age-seconds": 10,
    "max-connection-age-grace-seconds": 3,
    "max-message-bytes": MESSAGE_BYTES,
}
PAGE_SECONDS = 2.0
# What a server counts of its requests; all must be 0 once the clients have gone.
HELD = (
    *("unroll_slots_taken", "unroll_queue_length", "unroll_requests_stalled"),
    *("unroll_requests_running", "unroll_sessions_in_use"),
)
NEVER = ("INTERNAL", "UNKNOWN")  # codes


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a server tells of itself."""

    held: dict[str, float]  # by name, what is taken at the moment
    never: int  # calls that ended with a code of NEVER
    resident_bytes: float  # memory of the process


class Server:
    """A server at a fixed address.

    Args:
        bundle: to serve.
        others: more of them, which take turns as the second model.
        folder: for its sessions and its log; must exist.
        key: of capsules, in hex; the servers share it.
        ports: to listen on, for calls and for the metrics.
    """

    def __init__(
        self, bundle: Path, others: Sequence[Path], folder: Path, key: str, ports: tuple[int, int]
    ) -> None:
        port, metrics_port = ports
        self.address = f"{HOST}:{port}"
        self._metrics = f"http://{HOST}:{metrics_port}/metrics"
        self._log, self._state, self._other = folder / "log", folder / "state", folder / OTHER
        self._others = cycle(others)
        self.swap()
        flags = LIMITS | {"port": port, "metrics-port": metrics_port, "state-dir": self._state}
        flags |= {"log-format": "json", "log-level": "WARNING"}
        self._command = [sys.executable, "-m", "serving"]
        self._command += [f"--model={MODEL}={bundle}", f"--model={OTHER}={self._other}"]
        self._command += [f"--{name}={value}" for name, value in flags.items()]
        self._environment = {**os.environ, KEYS_VARIABLE: key}
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=log
            )
        self.starts += 1

    def exit_code(self) -> int | None:
        """Return how the process ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End the process with SIGKILL; does no harm if there is none."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def swap(self) -> None:
        """Put the other bundle in the second model's place, in one moment."""
        new = self._other.with_suffix(".new")
        new.symlink_to(next(self._others))
        new.replace(self._other)

    @contextmanager
    def robbed(self) -> Iterator[None]:
        """Take the state dir away for the time of the block."""
        away = self._state.rename(self._state.with_suffix(".away"))
        try:
            yield
        finally:
            away.rename(self._state)

    def page(self) -> Page | None:
        """Read its metrics; None if it is not there yet."""
        try:
            with urllib.request.urlopen(self._metrics, timeout=PAGE_SECONDS) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        families = {family.name: family for family in text_string_to_metric_families(text)}
        calls = families["unroll_requests"].samples
        return Page(
            held={name: _sum(families.get(name)) for name in HELD},
            never=int(sum(each.value for each in calls if each.labels["code"] in NEVER)),
            resident_bytes=_sum(families.get("process_resident_memory_bytes")),
        )

    def said(self) -> str:
        """Return all warnings and errors of its log."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""


def _sum(family: Metric | None) -> float:
    return 0.0 if family is None else sum(sample.value for sample in family.samples)
