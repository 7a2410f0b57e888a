"""The settings of sessions and of where they are stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from serving.sessions.redis.settings import RedisSettings, read_redis
from unroll.errors import SettingsError
from unroll.ranges import COUNT, Range

YEAR = 365 * 86_400  # seconds


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """Sessions, capsules and the store."""

    capsule_keys: Path | None = None
    """File of the keys that sign capsules. Each line holds one key of 32 bytes or more, in
    hexadecimal. The first key signs; all are accepted. Default: the variable UNROLL_CAPSULE_KEYS,
    else a random key."""

    state_dir: Path | None = None
    """Folder in which sessions are stored, so that they survive the server. By default they are
    only in memory."""

    store: str | None = None
    """Redis or Valkey in which sessions are stored, so that several servers share them:
    redis://HOST:PORT/DATABASE, rediss:// for TLS, unix:///PATH, redis+sentinel://HOST,HOST/SERVICE
    or redis+cluster://HOST,HOST; USER@ before the host if needed."""

    store_password: Path | None = None
    """File with the password of the store, read for each connection. Default: the variable
    UNROLL_STORE_PASSWORD, else none."""

    store_ca: Path | None = None
    """Trust the authorities in this PEM file for the store's certificate; with rediss:// only.
    Default: those of the system."""

    store_prefix: str = "unroll"
    """Prefix of all keys in the store. Servers that share sessions need the same one."""

    store_timeout_seconds: Annotated[float, Range(above=0, most=60)] = 1.5
    """Maximum time of one access to the store, including one retry. Then the request fails with
    UNAVAILABLE."""

    sessions_in_memory: Annotated[int, Range(1, COUNT)] = 100_000
    """Maximum number of idle sessions in memory. Beyond it, the least recently used are kept only
    in the state dir or the store; without either, they are evicted."""

    session_spill_seconds: Annotated[float, Range(above=0, most=YEAR)] = 300.0
    """With a state dir or a store, sessions unused for this long leave the memory."""

    session_idle_seconds: Annotated[float, Range(0, 10 * YEAR)] = 86400.0
    """Sessions unused for this long expire; 0 keeps them for ever."""

    session_marks: Annotated[int, Range(1, 1024)] = 4
    """Positions to which a session can be rewound, the current one included."""

    max_sessions_per_caller: Annotated[int, Range(0, COUNT)] = 10_000
    """Maximum number of sessions of one caller that has a token or a certificate; 0 disables."""

    @property
    def redis(self) -> RedisSettings | None:
        """How to reach the store; None where there is none.

        Raises:
            SettingsError: it has no such address, or its password cannot be read.
        """
        if self.store is None:
            return None
        return read_redis(
            self.store,
            password=self.store_password,
            ca=self.store_ca,
            prefix=self.store_prefix,
            timeout_seconds=self.store_timeout_seconds,
        )

    def check_store(self) -> None:
        """Check what belongs together.

        Raises:
            SettingsError: there are two places, or what belongs to one that is not given.
        """
        if self.store is not None and self.state_dir is not None:
            raise SettingsError(
                "store and state_dir: sessions are stored in one place; give only one of --store "
                "and --state-dir"
            )
        if self.store is None and (self.store_password or self.store_ca) is not None:
            raise SettingsError(
                "store_password and store_ca: there is no store; name one with --store"
            )
