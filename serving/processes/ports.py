"""Ports that several processes listen on."""

import socket

from unroll.errors import SettingsError


def reserve(setting: str, host: str, port: int) -> socket.socket:
    """Take a port, so that only processes that share it on purpose get it.

    Args:
        setting: named in the error.
        host: address to listen on.
        port: which; 0 takes a free one.

    Returns:
        A socket that is bound to it and does not listen; the port is free when it is closed.

    Raises:
        SettingsError: the address is none of this machine's, or somebody listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family)
    try:
        with socket.socket(family) as alone:  # which no listener lets pass
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        option = "--" + setting.replace("_", "-")
        raise SettingsError(
            f"{setting} = {port}: cannot listen on {host}: {error.strerror}; choose another with "
            f"{option}, or 0 for a free one"
        ) from error
    return taken
