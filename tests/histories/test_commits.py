"""What each check of a commit is for, and a commit whose answer is lost."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from serving.sessions.redis import scripts
from serving.sessions.redis.settings import read_redis
from serving.sessions.redis.store import RedisStore
from serving.sessions.store import Change, Contents, Found, Lease, NewSession
from tests.histories.link import Link
from tests.serving.key_servers import running
from unroll.errors import StoreError

ANNA, NAME = b"a" * 16, "session"


@asynccontextmanager
async def store_at(port: int, prefix: str = "p") -> AsyncIterator[RedisStore]:
    reached = read_redis(
        f"redis://127.0.0.1:{port}", password=None, ca=None, prefix=prefix,
        timeout_seconds=20.0,
    )  # fmt: skip
    store = await RedisStore.open(reached, 0.0, lambda: None)
    try:
        yield store
    finally:
        await store.close()


def change() -> Change:
    return Change(secrets.token_bytes(16), b"head", 0, 1, (b"mark",))


async def begun(store: RedisStore) -> Lease:
    lease = await store.begin(NAME, ANNA)
    assert isinstance(lease, Lease)
    return lease


def test_commit_whose_answer_is_lost_is_not_told_to_be_refused_after_another(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        with running("valkey", tmp_path) as server, closing(Link(lambda: server.port)) as link:
            async with store_at(link.port) as far, store_at(server.port) as near:
                await near.create(
                    [NewSession(NAME, ANNA, secrets.token_bytes(16), Contents(b"head", (b"m",)))]
                )
                assert await near.commit(await begun(near), change())  # its script is known now
                lease, first = await begun(far), change()
                link.hold(answers_only=True)
                committing = asyncio.create_task(far.commit(lease, first))
                while await tag_of(near) != first.tag:
                    await asyncio.sleep(0.01)
                assert await near.commit(await begun(near), change())
                link.cut()
                with pytest.raises(StoreError, match="may have done so or not"):
                    await committing

    asyncio.run(scenario())


async def tag_of(store: RedisStore) -> bytes:
    found = await store.read(NAME, ANNA)
    assert isinstance(found, Found)
    return found.tag


CHECKS = "s[1] ~= ARGV[4] or s[2] ~= ARGV[3]"  # of a commit: the tag, and the lease
DONE = ("begin", "begin", "commit", "commit", "release", "lapse", "save", "lose")


class Twins:
    """A session in two stores, to which the same is done at random.

    Args:
        stores: which.
        client: of the server that has both.
        seed: of what is done.
    """

    def __init__(self, stores: tuple[RedisStore, RedisStore], client: Redis, seed: int) -> None:
        self._stores, self._client, self._chance = stores, client, random.Random(seed)
        self._name = f"session {seed}"
        self._keys = [f"{store._prefix}session:{self._name}" for store in stores]
        self._leases: list[list[Lease]] = []
        self._saved: list[bytes | None] = []

    async def live(self) -> list[list[object]]:
        """Return what both told, each time."""
        contents = Contents(b"head", (b"mark",))
        for store in self._stores:
            await store.create([NewSession(self._name, ANNA, secrets.token_bytes(16), contents)])
        self._save()
        told = [await self._do(self._chance.choice(DONE)) for _ in range(60)]
        found = [await store.read(self._name, ANNA) for store in self._stores]
        return [*told, [each.contents for each in found if isinstance(each, Found)]]

    async def _do(self, what: str) -> list[object]:
        if what == "begin":
            begun = [await store.begin(self._name, ANNA) for store in self._stores]
            leases = [each for each in begun if isinstance(each, Lease)]
            self._leases += [leases] * (len(leases) == len(begun))
            return [type(each) for each in begun]
        if what == "lapse":
            for key in self._keys:
                self._client.hset(key, "x", "0")
        elif what == "save":
            self._save()
        elif what == "lose":
            for key, value in zip(self._keys, self._saved, strict=True):
                assert value is not None
                self._client.restore(key, 0, value, replace=True)
        elif self._leases:
            pairs = list(zip(self._stores, self._chance.choice(self._leases[-4:]), strict=True))
            made = replace(change(), add=(b"%d" % self._chance.randrange(1000),))
            if what == "commit":
                return [await store.commit(lease, made) for store, lease in pairs]
            for store, lease in pairs:
                await store.release(lease)
        return []

    def _save(self) -> None:
        self._saved = [self._client.dump(key) for key in self._keys]


@pytest.mark.parametrize(
    ("left", "is_same"), [("s[2] ~= ARGV[3]", True), ("s[1] ~= ARGV[4]", False)],
    ids=["lease", "tag"],
)  # fmt: skip
def test_commit_that_checks_the_lease_alone_does_the_same_whatever_is_lost(
    left: str, is_same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease's key is new, set when the tag is read, and removed with the tag: it stands for both.

    So a history cannot see that a commit does not check the tag. It sees that copies of sessions
    are not checked by it.
    """

    async def scenario() -> None:
        assert CHECKS in scripts.COMMIT
        with running("valkey", tmp_path) as server, server.client as client:
            async with store_at(server.port, "both") as both:
                monkeypatch.setattr(scripts, "COMMIT", scripts.COMMIT.replace(CHECKS, left))
                async with store_at(server.port, "one") as one:
                    told = [await Twins((both, one), client, seed).live() for seed in range(40)]
        pairs = [pair for each in told for pair in each if pair]
        assert all(first == second for first, second in pairs) == is_same

    asyncio.run(scenario())
