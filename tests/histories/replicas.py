"""Servers over one Redis, and what befalls them."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serving.sessions.capsule import KEYS_VARIABLE
from tests.ports import free_ports
from tests.serving.key_servers import KeyServer, running
from tests.serving.running import wait_for

LEASE_SECONDS = 0.5
STOPPED_SECONDS = 1.2  # more than a lease
# A server with short leases and, if asked for, with a planted fault.
SERVER = """
import sys
from serving.sessions import redis_scripts, redis_store
redis_store.LEASE_SECONDS = float(sys.argv[1])
if sys.argv[2] == "unsafe":
    for name, check in (
        ("FIND", "if held > 0 and s[5] ~= ARGV[6] then"),
        ("COMMIT", "if s[1] ~= ARGV[4] or s[2] ~= ARGV[3] then"),
    ):
        script = getattr(redis_scripts, name)
        assert check in script
        setattr(redis_scripts, name, script.replace(check, "if false then"))
from serving.__main__ import main
main(sys.argv[3:])
"""


class Replicas:
    """Servers of one bundle, and their Redis.

    Args:
        bundle: which.
        count: of servers.
        redis: that they share.
        planted: name of a planted fault; empty for none.
    """

    def __init__(self, bundle: Path, count: int, redis: KeyServer, planted: str = "") -> None:
        self._bundle = bundle
        self._redis = redis
        self._planted = planted
        self._ports = free_ports(count)
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self.faults = 0

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self._ports]

    def start(self, index: int) -> None:
        ready = self._redis.folder / f"ready-{self._ports[index]}"
        ready.unlink(missing_ok=True)
        options = {
            "model": self._bundle, "port": self._ports[index], "port-file": ready,
            "store": self._redis.url, "log-level": "error", "slots": 8,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._processes[index] = started = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(LEASE_SECONDS), self._planted, *words],
            env={**os.environ, KEYS_VARIABLE: "5a" * 32},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: ready.exists() or started.poll() is not None)
        assert started.poll() is None, f"server {index} has ended"

    def kill(self, index: int) -> None:
        process = self._processes[index]
        if process is not None:
            process.kill()
            process.wait()

    def harm(self, chance: random.Random) -> None:
        """Let one thing go wrong, and mend it."""
        self.faults += 1
        index = chance.randrange(len(self._ports))
        kind = chance.choice(["stop", "stop", "stop", "kill", "redis", "cut"])
        if kind == "stop":
            process = self._processes[index]
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_SECONDS)
            process.send_signal(signal.SIGCONT)
        elif kind == "kill":
            self.kill(index)
            self.start(index)
        elif kind == "redis":
            self._redis.stop()
            self._redis.start()
        else:
            with self._redis.client as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal")


@contextmanager
def replicas(bundle: Path, folder: Path, *, count: int, planted: str) -> Iterator[Replicas]:
    """Start a Redis that writes down everything, and servers over it."""
    kept = ("--appendonly", "yes", "--appendfsync", "always")
    with running("valkey", folder, *kept) as redis, ExitStack() as stack:
        made = Replicas(bundle, count, redis, planted)
        for index in range(count):
            stack.callback(made.kill, index)
            made.start(index)
        yield made
