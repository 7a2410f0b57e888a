"""A server in a process of its own: its threads' cores, its processor time, its memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness.machine import resident_bytes
from unroll.client.client import Client
from unroll.errors import ServerError
from unroll.options import GenerateOptions

START_SECONDS, STOP_SECONDS = 60.0, 20.0
WARM_UP_SYMBOLS, WARM_UP_TEXTS = 4000, 100
CLEARLY_SECONDS = 0.2  # of processor time; the system counts it in hundredths


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a process has used so far: processor time, and memory that it has now."""

    engine_seconds: float  # of the engine's thread
    other_seconds: float  # of all other threads
    resident_bytes: int


class ServerProcess:
    """A running server process; the target is where it listens, as HOST:PORT."""

    def __init__(self, process_id: int, target: str) -> None:
        self.target = target
        self.process_id = process_id
        self._engine_thread = process_id  # until it is found

    def pin_engine(self, core: int) -> None:
        """Put the engine's thread on a core.

        Python 3.11 does not tell the system its threads' names, so it is found by its work: while
        one text is written, it is the busiest by far.

        Raises:
            ServerError: no thread is.
        """
        before = self.thread_seconds()
        with Client(self.target) as client:
            for _ in range(WARM_UP_TEXTS):
                client.generate("", GenerateOptions(max_new_symbols=WARM_UP_SYMBOLS))
                after = self.thread_seconds()
                spent = {thread: after[thread] - before.get(thread, 0.0) for thread in after}
                busiest, second = sorted(spent, key=spent.__getitem__, reverse=True)[:2]
                if spent[busiest] > spent[second] + CLEARLY_SECONDS:
                    self._engine_thread = busiest
                    os.sched_setaffinity(busiest, {core})
                    return
        raise ServerError(f"{self.target}: no thread of the server is clearly its engine's")

    def usage(self) -> Usage:
        """Return what it has used so far."""
        seconds = self.thread_seconds()
        engine = seconds[self._engine_thread]
        return Usage(
            engine_seconds=engine,
            other_seconds=sum(seconds.values()) - engine,
            resident_bytes=resident_bytes(self.process_id),
        )

    def thread_seconds(self) -> dict[int, float]:
        """Return each thread's processor time in seconds, by its number."""
        return thread_seconds(self.process_id)


def thread_seconds(process: int | str = "self") -> dict[int, float]:
    """Return the processor time of each thread of a process in seconds, by its number."""
    seconds = {}
    for folder in Path(f"/proc/{process}/task").iterdir():
        try:
            stat = (folder / "stat").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            continue
        user, system = stat.rpartition(")")[2].split()[11:13]
        seconds[int(folder.name)] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


@contextmanager
def running(module: str, *arguments: str, core: int | None = None) -> Iterator[ServerProcess]:
    """Run `python -m module --port 0 ...`; stop it at the block's end.

    Args:
        module: of a server that takes --port and --port-file.
        arguments: further ones.
        core: of all its threads; by default any.

    Raises:
        ServerError: it did not start; its last words are in the message.
    """
    with TemporaryDirectory() as folder:
        port_file, words = Path(folder) / "port", Path(folder) / "words"
        command = [sys.executable, "-m", module, "--port", "0", "--port-file", str(port_file)]
        with words.open("wb") as output:
            process = subprocess.Popen([*command, *arguments], stdout=output, stderr=output)
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})  # before it has any other thread
            ends = time.monotonic() + START_SECONDS
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > ends:
                    said = words.read_text(encoding="utf-8", errors="replace")
                    raise ServerError(f"{process.args!r} did not start: {said[-2000:]}")
                time.sleep(0.05)
            port = port_file.read_text(encoding="ascii").strip()
            yield ServerProcess(process.pid, f"127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
