"""Ports of several processes: nobody else gets them, from the first moment on."""

import socket
from contextlib import ExitStack

import pytest

from serving.processes.ports import reserved
from tests.ports import free_port
from unroll.errors import SettingsError

HOST = "127.0.0.1"
REFUSED = "cannot listen on 127.0.0.1: Address already in use; choose another with --http-port"


def listening(port: int) -> socket.socket:
    """Listen as each of the processes does."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((HOST, port))
    made.listen()
    return made


def test_port_is_refused_to_another_server_before_anybody_listens() -> None:
    port = free_port()
    with reserved("http_port", HOST, port) as number:
        assert number == port
        with pytest.raises(SettingsError, match=REFUSED), reserved("http_port", HOST, port):
            pass
        with pytest.raises(SettingsError), reserved("http_port", "localhost", port):
            pass
        with listening(port), listening(port):
            pass
    with reserved("http_port", HOST, port):
        pass


def test_port_that_processes_of_an_ended_supervisor_listen_on_is_refused() -> None:
    with listening(0) as orphan:
        port = orphan.getsockname()[1]
        with pytest.raises(SettingsError, match=REFUSED), reserved("http_port", HOST, port):
            pass
    with reserved("http_port", HOST, port):
        pass


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_each_server_gets_another_free_port(host: str) -> None:
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved("port", host, 0)) for _ in range(8)]
        assert len(set(ports)) == 8
        assert 0 not in ports
