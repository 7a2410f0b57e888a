"""How to reach a Redis."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from unroll.errors import SettingsError
from unroll.files import read_settings

PASSWORD_VARIABLE = "UNROLL_STORE_PASSWORD"
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster",
           "rediss+cluster")  # fmt: skip
PORT, SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """How to reach a Redis or Valkey.

    Attributes:
        kind: "server", "sentinel" or "cluster".
        addresses: host and port of the server, or of the sentinels or nodes that know the others.
        path: of a Unix socket, in place of an address.
        database: number.
        service: that the sentinels know the servers by.
        user: name; empty for the default one.
        password: in force without a file; never shown.
        password_file: that holds the one in force.
        tls: whether connections are encrypted.
        ca: file of the certificates that are trusted; None for those of the system.
        prefix: of all keys.
        timeout_seconds: for one access, a second try included.
    """

    kind: str
    addresses: tuple[tuple[str, int], ...] = ()
    path: str = ""
    database: int = 0
    service: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    tls: bool = False
    ca: Path | None = None
    prefix: str = "unroll"
    timeout_seconds: float = 1.5

    @property
    def has_password(self) -> bool:
        """Whether servers ask for one."""
        return bool(self.password) or self.password_file is not None

    def read_password(self) -> str:
        """Return the password as it is now.

        Raises:
            SettingsError: its file cannot be read.
        """
        if self.password_file is None:
            return self.password
        try:
            return read_settings(self.password_file).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise SettingsError(
                f"store_password = {str(self.password_file)!r}: cannot be read: {why}; name a file "
                "that holds the password"
            ) from error


def read_redis(
    url: str,
    *,
    password: Path | None,
    ca: Path | None,
    prefix: str,
    timeout_seconds: float,
) -> RedisSettings:
    """Read the address and the password.

    Args:
        url: redis://, rediss:// (TLS) or unix:// and, for several addresses, +sentinel or +cluster.
        password: file that holds it, also for connections that are made later; without one, the
            variable UNROLL_STORE_PASSWORD counts.
        ca: file of trusted certificates.
        prefix: of all keys.
        timeout_seconds: for one access.

    Raises:
        SettingsError: the address is none, or holds a password; the file cannot be read.
    """
    try:
        parts = _parts(url)
        addresses = _addresses(parts.netloc.rpartition("@")[2], parts.scheme)
        database, service = _place(parts.scheme, parts.path)
    except ValueError as error:
        raise SettingsError(
            f"store: {error}; use redis://HOST:PORT/DATABASE, rediss://..., unix:///PATH, "
            "redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST"
        ) from error
    if ca is not None and not parts.scheme.startswith("rediss"):
        raise SettingsError("store_ca needs TLS: use rediss:// in --store")
    reached = RedisSettings(
        kind=parts.scheme.partition("+")[2] or "server",
        addresses=addresses,
        path=unquote(parts.path) if parts.scheme == "unix" else "",
        database=database,
        service=service,
        user=unquote(parts.username or ""),
        password=os.environ.get(PASSWORD_VARIABLE, ""),
        password_file=password,
        tls=parts.scheme.startswith("rediss"),
        ca=ca,
        prefix=prefix,
        timeout_seconds=timeout_seconds,
    )
    reached.read_password()  # a file that cannot be read is told at the start
    return reached


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"the scheme {parts.scheme!r} is none of {', '.join(SCHEMES)}")
    if parts.password is not None:
        raise ValueError(
            "it holds a password, which other users of this machine could read; give it with "
            f"--store-password FILE or in {PASSWORD_VARIABLE}"
        )
    return parts


def _addresses(hosts: str, scheme: str) -> tuple[tuple[str, int], ...]:
    if scheme == "unix":
        return ()
    port = SENTINEL_PORT if scheme.endswith("sentinel") else PORT
    parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    found = tuple((part.hostname or "", part.port or port) for part in parts)
    if not all(host for host, _ in found):
        raise ValueError("it names no host")
    if len(found) > 1 and "+" not in scheme:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    return found


def _place(scheme: str, path: str) -> tuple[int, str]:
    """Return the database and, for sentinels, the service."""
    if scheme == "unix":
        if not path.strip("/"):
            raise ValueError("unix:// needs the path of a socket, as in unix:///run/redis.sock")
        return 0, ""
    service, _, rest = path.strip("/").rpartition("/")
    if scheme.endswith("sentinel"):
        service, rest = (service, rest) if service else (rest, "")
        if not service:
            raise ValueError("sentinels need the name of a service, as in //host/mymaster")
    if rest and not rest.isdecimal():
        raise ValueError(f"its database is {rest!r}, not a number")
    return int(rest or 0), service if scheme.endswith("sentinel") else ""
