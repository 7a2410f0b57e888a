"""Ports for servers that are told theirs, or that stop and come back."""

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
    candidates = range(LOWEST_PORT, int(bounds.split()[0]))
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
