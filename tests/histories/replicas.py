"""Servers over one store, each with a link of its own to it, and a proxy before them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from serving.sessions.capsule import KEYS_VARIABLE
from tests.histories.link import Link
from tests.histories.stores import Store
from tests.ports import free_port, free_ports
from tests.serving.proxies import envoy_command, running_proxy

LEASE_SECONDS = 0.5
START_SECONDS = 300.0  # far more than a server needs, on a busy machine too
ROOT = Path(__file__).parents[2]


class Replicas:
    """Servers of one bundle over one store.

    Args:
        bundle: which.
        folder: for files.
        store: that they share.
        count: of servers.
        planted: name of a planted fault; empty for none.
        grace_seconds: of a drain.

    Attributes:
        ports: of the servers.
        proxy: address of the proxy.
        links: of the servers to the store.
    """

    def __init__(
        self,
        bundle: Path,
        folder: Path,
        store: Store,
        *,
        count: int,
        planted: str = "",
        grace_seconds: float = 30.0,
    ) -> None:
        self._bundle = bundle
        self._folder = folder
        self._planted = planted
        self._grace_seconds = grace_seconds
        self.ports = free_ports(count)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.proxy = ""
        self.links = [Link(lambda: store.port) for _ in range(count)]

    @property
    def addresses(self) -> list[str]:
        """Where clients reach a server: each at its own, and any through the proxy."""
        return [*(f"127.0.0.1:{port}" for port in self.ports), self.proxy]

    def start(self, index: int, clock_seconds: float = 0.0) -> None:
        """Start a server and wait until it is ready."""
        self.launch(index, clock_seconds)
        self.wait(index)

    def launch(self, index: int, clock_seconds: float = 0.0) -> None:
        """Start a server."""
        ready = self._folder / f"ready-{index}"
        ready.unlink(missing_ok=True)
        options = {
            "model": self._bundle, "port": self.ports[index], "port-file": ready,
            "store": f"redis://127.0.0.1:{self.links[index].port}", "log-level": "error",
            "slots": 8, "grace-seconds": self._grace_seconds,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        own = (str(LEASE_SECONDS), str(clock_seconds), self._planted)
        with (self._folder / f"log-{index}").open("w") as log:
            self._processes[index] = subprocess.Popen(
                [sys.executable, "-m", "tests.histories.server", *own, *words],
                env={**os.environ, KEYS_VARIABLE: "5a" * 32},
                cwd=ROOT,
                stderr=log,
                stdout=log,
            )

    def wait(self, index: int) -> None:
        """Wait until a server is ready."""
        ends = time.monotonic() + START_SECONDS
        while not (self._folder / f"ready-{index}").exists():
            told = (self._folder / f"log-{index}").read_text("utf-8")[-2000:]
            assert self._processes[index].poll() is None, f"server {index} has ended: {told}"
            assert time.monotonic() < ends, f"server {index} is not ready: {told}"
            time.sleep(0.02)

    def pause(self, index: int) -> None:
        """Let a server stand still."""
        self._processes[index].send_signal(signal.SIGSTOP)

    def go_on(self, index: int) -> None:
        """Let a server that stands still go on."""
        self._processes[index].send_signal(signal.SIGCONT)

    def kill(self, index: int) -> None:
        """End a server at once."""
        self._processes[index].kill()
        self._processes[index].wait()

    def drain(self, index: int) -> None:
        """End a server in good order."""
        self._processes[index].terminate()
        assert self._processes[index].wait(START_SECONDS) == 0, f"server {index} ended badly"

    def close(self) -> None:
        """End everything."""
        for index in self._processes:
            with suppress(ProcessLookupError):
                self.kill(index)
        for link in self.links:
            link.close()


@contextmanager
def replicas(
    bundle: Path, folder: Path, *, count: int, planted: str = "", grace_seconds: float = 30.0
) -> Iterator[tuple[Replicas, Store]]:
    """Start a store, servers over it and Envoy before them, and end them."""
    with ExitStack() as stack:
        store = Store(folder)
        stack.callback(store.close)
        servers = Replicas(
            bundle, folder, store, count=count, planted=planted, grace_seconds=grace_seconds
        )
        stack.callback(servers.close)
        for does in (servers.launch, servers.wait):
            for index in range(count):
                does(index)
        port = free_port()
        command = envoy_command(port, servers.ports, folder)
        servers.proxy = stack.enter_context(running_proxy(command, port, folder))
        yield servers, store
