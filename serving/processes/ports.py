"""Ports that several processes listen on."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from unroll.errors import SettingsError


@contextmanager
def reserved(setting: str, host: str, port: int) -> Iterator[int]:
    """Take a port for the block, so that only processes that share it on purpose get it.

    Args:
        setting: named in the error.
        host: address to listen on.
        port: which; 0 takes a free one.

    Yields:
        The port. A socket is bound to it that does not listen.

    Raises:
        SettingsError: the address is none of this machine's, or somebody listens there or is about
            to.
    """
    with ExitStack() as stack:
        try:
            taken = stack.enter_context(_taken(host, port))
            address, number, *_ = taken.getsockname()
            stack.enter_context(_name(address, number))
            stack.enter_context(_alone(host, number)).close()
        except OSError as error:
            option = "--" + setting.replace("_", "-")
            raise SettingsError(
                f"{setting} = {port}: cannot listen on {host}: {error.strerror}; choose another "
                f"with {option}, or 0 for a free one"
            ) from error
        yield number


def _taken(host: str, port: int) -> socket.socket:
    """Bind a socket that lets those of the processes listen beside it."""
    shared = _socket(host)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _bound(shared, (host, port))


def _alone(host: str, port: int) -> socket.socket:
    """Bind a socket as only one can that meets no listener."""
    return _bound(_socket(host), (host, port))


def _name(address: str, port: int) -> socket.socket:
    """Take the port's name among Linux's abstract sockets, which no other supervisor gets then.

    Until its processes listen, another's sockets could be bound beside its own.
    """
    named = socket.socket(socket.AF_UNIX)
    return _bound(named, f"\0unroll {address} {port}") if sys.platform == "linux" else named


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _bound(made: socket.socket, address: tuple[str, int] | str) -> socket.socket:
    """Bind a socket; close it if that fails."""
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
