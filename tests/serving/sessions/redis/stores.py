"""Stores in a Redis, and what the tests of them share."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from serving.sessions.redis.settings import RedisSettings, read_redis
from serving.sessions.redis.store import RedisStore
from serving.sessions.store import Change, Contents, Found, Lease, NewSession
from tests.serving.key_servers import KINDS
from unroll.errors import StoreError

ANNA = b"a" * 16
kinds = pytest.mark.parametrize("kind", KINDS)


def settings(url: str, **changes: object) -> RedisSettings:
    values = {"password": None, "ca": None, "prefix": "p", "timeout_seconds": 10.0}
    return read_redis(url, **(values | changes))  # type: ignore[arg-type]  # of mixed types


@asynccontextmanager
async def store_at(reached: RedisSettings) -> AsyncIterator[RedisStore]:
    turns: list[bool] = []
    store = await RedisStore.open(reached, 0.0, lambda: turns.append(store.has_failed))
    store.turns = turns  # type: ignore[attr-defined]  # for the test to see
    try:
        yield store
    finally:
        await store.close()


def new(name: str, mark: bytes = b"mark") -> NewSession:
    return NewSession(name, ANNA, secrets.token_bytes(16), Contents(b"head", (mark,)))


def change(*marks: bytes) -> Change:
    return Change(secrets.token_bytes(16), b"head", 0, 1, marks)


async def begin(store: RedisStore, name: str) -> Lease:
    begun = await store.begin(name, ANNA)
    assert isinstance(begun, Lease), begun
    return begun


async def is_usable(store: RedisStore) -> bool:
    name = secrets.token_hex(8)
    await store.create([new(name)])
    return isinstance(await store.read(name, ANNA), Found)


async def comes_back(store: RedisStore) -> bool:
    try:
        return await is_usable(store)
    except StoreError:
        return False
