"""The servers of a Redis, as redis-py reaches them."""

from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from serving.sessions.redis.settings import RedisSettings
from unroll.errors import SettingsError


class RedisServers(Protocol):
    """A server, the primary that sentinels know, or a cluster."""

    async def connect(self) -> AbstractConnection:
        """Return a new connection to the server that has the sessions.

        Raises:
            RedisError, OSError: it cannot be reached.
        """
        ...

    async def memory(self) -> list[dict[str, Any]]:
        """Return what each server tells of its memory."""
        ...

    async def close(self) -> None:
        """Close the connections that it made for itself."""
        ...


def servers(settings: RedisSettings, key: str, seconds: float) -> RedisServers:
    """Say how to reach a Redis; nothing is connected yet.

    Args:
        settings: how.
        key: of the sessions, all of which are on one server.
        seconds: for a server to let itself be connected, or to answer.
    """
    options: dict[str, Any] = {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "socket_keepalive": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "unroll",
    }
    if settings.user or settings.has_password:
        options["credential_provider"] = _Credentials(settings)
    if settings.tls:
        options["ssl"] = True
        if settings.ca is not None:
            options["ssl_ca_certs"] = str(settings.ca)
    if settings.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in settings.addresses]
        return _Cluster(RedisCluster(startup_nodes=nodes, **options), key)
    options["db"] = settings.database
    if settings.kind == "sentinel":
        known = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        make_sentinel: Any = Sentinel  # which has no types
        sentinel = make_sentinel(list(settings.addresses), sentinel_kwargs=known)
        return _Server(sentinel.master_for(settings.service, **options), sentinel.sentinels)
    if settings.path:
        return _Server(Redis(unix_socket_path=settings.path, **options))
    ((host, port),) = settings.addresses
    return _Server(Redis(host=host, port=port, **options))


class _Credentials(CredentialProvider):
    """User and password as of each connection: passwords change while servers run."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._settings.read_password()
        except SettingsError as error:
            raise OSError(str(error)) from error
        return (self._settings.user, password) if self._settings.user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class _Server:
    """One server, which sentinels may have to name first."""

    def __init__(self, client: Any, sentinels: list[Any] | None = None) -> None:
        self._client = client
        self._sentinels = sentinels or []

    async def connect(self) -> AbstractConnection:
        return await _connected(self._client.connection_pool.make_connection())

    async def memory(self) -> list[dict[str, Any]]:
        return [await self._client.info("memory")]

    async def close(self) -> None:
        for client in (self._client, *self._sentinels):
            await client.aclose()


class _Cluster:
    """The server of a cluster that has a key."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key

    async def connect(self) -> AbstractConnection:
        await self._client.aclose()  # so that it asks which server has the key by now
        await self._client.initialize()
        node = self._client.get_node_from_key(self._key)
        return await _connected(node.connection_class(**node.connection_kwargs))

    async def memory(self) -> list[dict[str, Any]]:
        memory = await self._client.info("memory")
        return [memory] if "used_memory" in memory else list(memory.values())

    async def close(self) -> None:
        await self._client.aclose()


async def _connected(connection: Any) -> AbstractConnection:
    """Connect, and leave all further time-outs to whoever uses the connection."""
    await connection.connect()
    connection.socket_timeout = None
    return connection  # type: ignore[no-any-return]  # its methods have no types
