"""The store that all servers share, which may lose what it had acknowledged."""

import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.histories.calls import Loss
from tests.ports import free_port
from tests.serving.key_servers import KeyServer

# What it acknowledges is on disk; and no rewriting comes between a mark in the file and its cut.
KEPT = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0",
        "--repl-diskless-sync-delay", "0")  # fmt: skip
NUMBER = re.compile(r"\.(\d+)\.incr\.aof$")
POLL_SECONDS = 0.02
PATIENCE = 60.0  # seconds; far more than an answer takes, on a busy machine too


class Store:
    """A Valkey that is harmed.

    Args:
        folder: where it writes.

    Attributes:
        server: that serves now.
        losses: that were declared so far.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[KeyServer] = []
        self.server = self._new()
        self.losses: list[Loss] = []

    @property
    def port(self) -> int:
        return self.server.port

    def _new(self) -> KeyServer:
        folder = self._folder / f"store-{len(self._started)}"
        folder.mkdir()
        server = KeyServer("valkey", folder, free_port(), KEPT)
        self._started.append(server)
        server.start()
        return server

    def close(self) -> None:
        """End it, and each replica that was made."""
        for server in self._started:
            server.stop()

    def restart(self) -> None:
        """Kill it and start it again; nothing is lost."""
        self.server.stop()
        self.server.start()

    def cut_connections(self) -> None:
        """Close the connections of all servers."""
        with _client(self.server) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let it refuse all writes for lack of memory."""
        with _client(self.server) as client:
            client.config_set("maxmemory", "1")
            yield
            client.config_set("maxmemory", "0")

    def promote(self, seconds: float) -> None:
        """Replace it by a replica that received nothing in its last seconds."""
        old, replica = self.server, self._new()
        with _client(old) as primary, _client(replica) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(old.port))
            while not _is_in_step(client):
                time.sleep(POLL_SECONDS)
            since = time.monotonic()
            primary.set("fence", since)
            while not primary.execute_command("WAIT", 1, 1000):
                pass
            client.execute_command("REPLICAOF", "NO", "ONE")
            time.sleep(seconds)
        killed = time.monotonic()
        old.stop()
        self._declare(since, killed)
        self.server = replica
        shutil.rmtree(old.folder)

    def cut(self, seconds: float, chance: random.Random) -> None:
        """Cut off the end of its file, where its last seconds are."""
        since = time.monotonic()
        with _client(self.server) as client:
            client.set("fence", since)
        file = _log_of(self.server.folder)
        size = file.stat().st_size
        time.sleep(seconds)
        killed = time.monotonic()
        self.server.stop()
        self._declare(since, killed)
        with file.open("r+b") as log:
            log.truncate(chance.randint(size, file.stat().st_size))
        self.server.start()

    def _declare(self, since: float, killed: float) -> None:
        self.losses.append(Loss(since=since, killed=killed, gone=time.monotonic()))


def _client(server: KeyServer) -> Redis:
    return Redis(port=server.port, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0))


def _is_in_step(replica: Redis) -> bool:
    """Tell whether a replica has all that came before, and writes down what comes from now on."""
    replication, log = replica.info("replication"), replica.info("persistence")
    return (
        replication["master_link_status"] == "up"
        and not log["aof_rewrite_in_progress"]
        and not log["aof_rewrite_scheduled"]
    )


def _log_of(folder: Path) -> Path:
    """Return the file to which commands are appended."""
    files = {int(found[1]): path for path in (folder / "appendonlydir").iterdir()
             if (found := NUMBER.search(path.name))}  # fmt: skip
    return files[max(files)]
