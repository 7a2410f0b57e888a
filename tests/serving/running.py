"""Real servers for tests: one on a thread of this process, one in a process of its own."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.engine.sequences.sequence import Sequence
from serving.server import Server
from serving.settings import ServerSettings
from unroll.client.client import Client

PATIENCE = 60.0  # seconds; far more than anything here takes on a busy machine
ENDLESS = 1_000_000  # symbols: takes a core half a minute, and would still fit into an answer
GROWING_SECONDS = (0.1, 1.0, 10.0)  # one of them ends a text in its middle, on any machine
# Channel options of a client whose connection holds a few hundred symbols, not many thousands.
NARROW = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]


class RunningServer:
    """A server with an event loop on a thread of its own.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.server = Server(settings)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server")

    def __enter__(self) -> "RunningServer":
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(PATIENCE)
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(PATIENCE)
        self._end_loop()

    def _end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    @property
    def address(self) -> str:
        return self.server.address

    def sequences(self, model: str = "") -> list[Sequence]:
        return self.server.models.get(model).engine.sequences()

    def client(self) -> Client:
        return Client(self.address)


def serve(*model: str, **settings: object) -> RunningServer:
    settings = {"max_new_symbols": ENDLESS} | settings
    return RunningServer(ServerSettings(model=model, port=0, **settings))  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "what the test waits for never came"
        time.sleep(0.005)


@contextmanager
def server_process(
    tmp_path: Path, *arguments: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `unroll serve` until it is ready; yields the process and its address."""
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "unroll", "serve", f"--port-file={port_file}"]
    process = subprocess.Popen(
        [*command, "--port=0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: port_file.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process, f"127.0.0.1:{port_file.read_text(encoding='ascii').strip()}"
    finally:
        process.kill()
        process.communicate()
