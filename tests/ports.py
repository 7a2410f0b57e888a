"""Ports for servers that are told theirs, or that stop and come back."""

import os
import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST_PORT = 10_000


def free_ports(count: int) -> list[int]:
    """Find ports that no connection and no server on port 0 takes by chance.

    Raises:
        RuntimeError: there are none.
    """
    bounds = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    # Each process of a test session has its own: a port that is found is listened on only later.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count_of_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    candidates = range(LOWEST_PORT + number, int(bounds.split()[0]), count_of_processes)
    found: list[int] = []
    # Hypothesis seeds the global generator, in each process alike.
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"fewer than {count} ports of {candidates} are free")


def free_port() -> int:
    """Find one such port."""
    return free_ports(1)[0]
