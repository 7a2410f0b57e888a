"""Which store a server's settings ask for."""

from collections.abc import Callable

from serving.sessions.cached_store import CachedStore
from serving.sessions.disk.store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.settings import SessionSettings
from unroll.errors import MissingExtraError, lacking


async def open_store(
    settings: SessionSettings, on_change: Callable[[], None]
) -> MemoryStore | CachedStore:
    """Open the store.

    Args:
        settings: which, and for how long sessions rest there.
        on_change: called on the event loop when its `has_failed` has changed.

    Raises:
        MissingExtraError: the packages that reach Redis are not installed.
        SettingsError: it cannot be used.
    """
    idle_seconds, in_memory = settings.session_idle_seconds, settings.sessions_in_memory
    if (redis := settings.redis) is not None:
        try:
            from serving.sessions.redis.store import RedisStore
        except ModuleNotFoundError as error:
            raise MissingExtraError(lacking("--store", error.name, "redis")) from error

        reached = await RedisStore.open(redis, idle_seconds, on_change)
        return CachedStore(reached, in_memory, settings.session_spill_seconds)
    if settings.state_dir is not None:
        disk = DiskStore(settings.state_dir, idle_seconds, on_change)
        return CachedStore(disk, in_memory, settings.session_spill_seconds)
    return MemoryStore(in_memory, idle_seconds)
