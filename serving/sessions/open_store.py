"""Which store a server's settings ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.sessions.cached_store import CachedStore
from serving.sessions.disk_store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.redis_settings import RedisSettings
from unroll.errors import MissingExtraError, lacking


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Where sessions rest and for how long.

    Attributes:
        state_dir: a folder on disk, if any.
        redis: a Redis, if any; never beside a folder.
        in_memory: sessions, or copies of them, that are kept in memory.
        spill_seconds: copies unused for so long leave the memory.
        idle_seconds: sessions unused for longer expire; 0 keeps them for ever.
    """

    state_dir: Path | None
    redis: RedisSettings | None
    in_memory: int
    spill_seconds: float
    idle_seconds: float


async def open_store(
    options: StoreOptions, on_change: Callable[[], None]
) -> MemoryStore | CachedStore:
    """Open the store.

    Args:
        options: which.
        on_change: called on the event loop when its `has_failed` has changed.

    Raises:
        MissingExtraError: the packages that reach Redis are not installed.
        SettingsError: it cannot be used.
    """
    if options.redis is not None:
        try:
            from serving.sessions.redis_store import RedisStore
        except ModuleNotFoundError as error:
            raise MissingExtraError(lacking("--store", error.name, "redis")) from error

        redis = await RedisStore.open(options.redis, options.idle_seconds, on_change)
        return CachedStore(redis, options.in_memory, options.spill_seconds)
    if options.state_dir is not None:
        disk = DiskStore(options.state_dir, options.idle_seconds, on_change)
        return CachedStore(disk, options.in_memory, options.spill_seconds)
    return MemoryStore(options.in_memory, options.idle_seconds)
