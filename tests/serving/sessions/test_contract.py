"""What every store of sessions does: one contract, several stores."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from serving.sessions.cached_store import CachedStore
from serving.sessions.disk import records as disk_records
from serving.sessions.disk.store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.redis import store as redis_store
from serving.sessions.redis.settings import read_redis
from serving.sessions.redis.store import RedisStore
from serving.sessions.store import Busy, Change, Contents, Found, Gone, Lease, NewSession
from serving.sessions.store import SessionStore as Store
from tests.serving.key_servers import KeyServer

LEASE_SECONDS = 500.0  # longer than a test takes on any machine
ANNA, BERT = b"a" * 16, b"b" * 16
STORES = [
    "memory",
    "disk",
    "redis",
    "valkey",
    "disk, cached",
    "redis, cached",
    "valkey, one cached",
]
SHARED = [name for name in STORES if name != "memory"]
Open = Callable[..., Awaitable[Store]]


@asynccontextmanager
async def opened(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Open]:
    """Give a function that opens a store, each time of the same sessions, as servers do."""
    name = request.node.callspec.params["name"]
    made: list[Store] = []
    prefix = secrets.token_hex(8)

    async def one(idle: float = 0.0) -> Store:
        kind, _, cached = name.partition(", ")
        store: Store
        if kind == "memory":
            store = MemoryStore(2000, idle)
        elif kind == "disk":
            store = DiskStore(folder, idle)
        else:
            server: KeyServer = request.getfixturevalue(kind)
            settings = read_redis(
                server.url, password=None, ca=None, prefix=prefix,
                timeout_seconds=10.0,
            )  # fmt: skip
            store = await RedisStore.open(settings, idle, lambda: None)
        made.append(CachedStore(store, 1 if "one" in cached else 1000, 60.0) if cached else store)
        return made[-1]

    try:
        yield one
    finally:
        for store in made:
            await store.close()


@pytest.fixture(autouse=True)
def _long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (disk_records, redis_store):
        monkeypatch.setattr(module, "LEASE_SECONDS", LEASE_SECONDS)


def let_pass(store: Store, seconds: float) -> None:
    """Set the clock of a store forward."""
    if isinstance(store, CachedStore):
        store = store.store
    if isinstance(store, RedisStore):  # its clock is Redis's, read by each script
        for name in ("_create", "_find", "_renew", "_commit", "_end", "_expire"):
            script = getattr(store, name).text
            assert script.count("time[1] +") == 1
            later = script.replace("time[1] +", f"time[1] + {seconds} +")
            setattr(store, name, redis_store._script(later))
    else:
        assert isinstance(store, MemoryStore | DiskStore)
        now = store.now
        store.now = lambda: now() + seconds


def contract(names: list[str] = STORES) -> Callable[[Callable[[Open], Awaitable[None]]], object]:
    """Make a test of a scenario, one for each store."""

    def decorate(scenario: Callable[[Open], Awaitable[None]]) -> object:
        @pytest.mark.parametrize("name", names)
        def test(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
            async def run() -> None:
                async with opened(request, tmp_path) as one:
                    await scenario(one)

            asyncio.run(run())

        test.__doc__ = scenario.__doc__
        return test

    return decorate


def new(name: str, owner: bytes = ANNA, mark: bytes = b"mark 0") -> NewSession:
    return NewSession(name, owner, secrets.token_bytes(16), Contents(b"\x00head", (mark,)))


def change(skip: int, stop: int, *add: bytes, head: bytes = b"head 1") -> Change:
    return Change(secrets.token_bytes(16), head, skip, stop, add)


async def begin(store: Store, name: str, owner: bytes = ANNA) -> Lease:
    begun = await store.begin(name, owner)
    assert isinstance(begun, Lease), begun
    return begun


async def contents(store: Store, name: str, owner: bytes = ANNA) -> Contents | Gone | None:
    found = await store.read(name, owner)
    return found.contents if isinstance(found, Found) else found


@contract()
async def test_what_is_created_is_found_by_its_owner_alone(one: Open) -> None:
    store = await one()
    mark = bytes(range(256)) * 20
    made = new("a", mark=mark)
    assert await store.create([made]) is None
    found = await store.read("a", ANNA)
    assert isinstance(found, Found)
    assert (found.tag, found.contents) == (made.tag, Contents(b"\x00head", (mark,)))
    assert 0 <= found.idle < 60
    assert await store.read("a", BERT) is Gone.UNKNOWN
    assert await store.begin("a", BERT) is Gone.UNKNOWN
    assert await store.read("never there", ANNA) is Gone.UNKNOWN


@contract()
async def test_known_contents_are_not_fetched(one: Open) -> None:
    store = await one()
    store = store.store if isinstance(store, CachedStore) else store
    made = new("a")
    await store.create([made])
    known = await store.read("a", ANNA, made.tag)
    assert isinstance(known, Found)
    assert known.contents is None
    begun = await store.begin("a", ANNA, made.tag)
    assert isinstance(begun, Lease)
    assert begun.found.contents is None


@contract()
async def test_commits_keep_skip_drop_and_add_marks(one: Open) -> None:
    store = await one()
    await store.create([new("a", mark=b"0")])
    expected = [b"0"]
    steps = [
        (0, 1, [b"1"]), (0, 2, [b"2", b"3"]), (2, 4, [b"4"]), (0, 2, []), (1, 2, [b"5"]),
        (0, 0, [b"6"]),
    ]  # fmt: skip
    for number, (skip, stop, add) in enumerate(steps):
        lease = await begin(store, "a")
        head = b"head %d" % number
        assert await store.commit(lease, change(skip, stop, *add, head=head))
        expected = expected[skip:stop] + add
        assert await contents(store, "a") == Contents(head, tuple(expected))


@contract()
async def test_lease_keeps_others_out_until_it_is_given_back(one: Open) -> None:
    store = await one()
    await store.create([new("a")])
    lease = await begin(store, "a")
    assert isinstance(await store.begin("a", ANNA), Busy)
    assert await store.begin("a", BERT) is Gone.UNKNOWN
    assert await store.renew(lease)
    assert isinstance(await store.read("a", ANNA), Found)
    await store.release(lease)
    assert not await store.renew(lease)
    after = await begin(store, "a")
    await store.release(lease)  # is not the holder's any more
    assert isinstance(await store.begin("a", ANNA), Busy)
    assert await store.commit(after, change(0, 1))
    assert not await store.renew(after)
    await begin(store, "a")


@contract()
async def test_commit_without_lease_or_with_an_older_tag_writes_nothing(one: Open) -> None:
    store = await one()
    await store.create([new("a")])
    first = await begin(store, "a")
    await store.release(first)
    second = await begin(store, "a")
    assert not await store.commit(first, change(0, 1, b"of the first"))
    older = replace(second, found=replace(second.found, tag=secrets.token_bytes(16)))
    assert not await store.commit(older, change(0, 1, b"of an older tag"))
    assert await contents(store, "a") == Contents(b"\x00head", (b"mark 0",))
    assert await store.commit(second, change(0, 1, b"of the second"))
    assert await contents(store, "a") == Contents(b"head 1", (b"mark 0", b"of the second"))


@contract()
async def test_commit_that_is_sent_again_is_the_same(one: Open) -> None:
    store = await one()
    await store.create([new("a")])
    lease = await begin(store, "a")
    made = change(0, 1, b"mark 1")
    assert await store.commit(lease, made)
    assert await store.commit(lease, made)
    assert await contents(store, "a") == Contents(b"head 1", (b"mark 0", b"mark 1"))


@contract()
async def test_ended_session_stays_ended_and_its_owner_hears_it(one: Open) -> None:
    store = await one()
    await store.create([new("a")])
    lease = await begin(store, "a")
    assert not await store.end(replace(lease, key=bytes(16)))
    assert await store.end(lease)
    assert await store.end(lease)
    assert await store.read("a", ANNA) is Gone.ENDED
    assert await store.begin("a", ANNA) is Gone.ENDED
    assert await store.read("a", BERT) is Gone.UNKNOWN
    assert not await store.commit(lease, change(0, 1, b"too late"))


@contract()
async def test_no_owner_gets_more_sessions_than_it_may_have(one: Open) -> None:
    store = await one()
    assert await store.create([new("0"), new("1")], 3) is None
    assert await store.create([new("2"), new("3")], 3) == 2
    assert await store.read("2", ANNA) is Gone.UNKNOWN
    results = await asyncio.gather(*(store.create([new(str(n))], 3) for n in range(4, 9)))
    assert sorted(results, key=str) == [3, 3, 3, 3, None]
    assert await store.create([new("b", BERT)], 1) is None
    assert await store.end(await begin(store, "0"))
    assert await store.create([new("9")], 3) is None


@contract()
async def test_sessions_unused_for_too_long_expire_and_leased_ones_do_not(one: Open) -> None:
    store = await one(50.0)
    names = [str(number) for number in range(5)]
    await store.create([new(name) for name in names])
    lease = await begin(store, "3")
    let_pass(store, 100.0)
    await store.create([new("young")])
    assert await store.begin("1", ANNA) is Gone.EXPIRED
    assert await store.expire() == 4
    assert [await store.read(name, ANNA) for name in "0124"] == [Gone.EXPIRED] * 4
    assert await store.read("0", BERT) is Gone.UNKNOWN
    assert isinstance(await store.read("3", ANNA), Found)
    assert await store.commit(lease, change(0, 1, b"mark 1"))
    let_pass(store, 100.0)
    assert await store.expire() == 2
    assert await store.expire() == 0


@contract()
async def test_session_that_was_used_since_does_not_expire(one: Open) -> None:
    store = await one(50.0)
    await store.create([new(name) for name in ("unused", "read", "released", "committed")])
    let_pass(store, 40.0)
    assert isinstance(await store.read("read", ANNA), Found)
    await store.release(await begin(store, "released"))
    assert await store.commit(await begin(store, "committed"), change(0, 1, b"mark 1"))
    let_pass(store, 40.0)
    assert await store.expire() == 2
    assert await store.read("read", ANNA) is Gone.EXPIRED
    assert isinstance(await store.read("released", ANNA), Found)
    assert isinstance(await store.read("committed", ANNA), Found)
    let_pass(store, 40.0)
    assert await store.expire() == 2


@contract()
async def test_more_than_one_portion_expires(one: Open) -> None:
    store = await one(50.0)
    await store.create([new(str(number)) for number in range(1100)])
    let_pass(store, 100.0)
    assert await store.expire() == 1100


@contract()
async def test_without_a_limit_nothing_expires(one: Open) -> None:
    store = await one()
    await store.create([new("a")])
    assert await store.expire() == 0
    assert isinstance(await store.read("a", ANNA), Found)


@contract()
async def test_what_happens_at_the_same_time_happens_all_and_once(one: Open) -> None:
    store = await one()
    names = [str(number) for number in range(100)]
    await asyncio.gather(*(store.create([new(name)]) for name in names))
    begun = await asyncio.gather(*(store.begin(name, ANNA) for name in names * 2))
    leases = [each for each in begun if isinstance(each, Lease)]
    assert sorted(lease.session_id for lease in leases) == sorted(names)
    written = await asyncio.gather(
        *(store.commit(lease, change(0, 1, lease.session_id.encode())) for lease in leases)
    )
    assert all(written)
    found = await asyncio.gather(*(contents(store, name) for name in names))
    assert found == [Contents(b"head 1", (b"mark 0", name.encode())) for name in names]


@contract(SHARED)
async def test_other_server_sees_leases_commits_and_ends(one: Open) -> None:
    here, there = await one(), await one()
    await here.create([new("a")])
    assert isinstance(await there.read("a", ANNA), Found)
    lease = await begin(here, "a")
    assert isinstance(await there.begin("a", ANNA), Busy)
    assert await here.commit(lease, change(0, 1, b"mark 1"))
    assert await contents(there, "a") == Contents(b"head 1", (b"mark 0", b"mark 1"))
    assert await there.commit(await begin(there, "a"), change(1, 2, b"mark 2", head=b"head 2"))
    assert await contents(here, "a") == Contents(b"head 2", (b"mark 1", b"mark 2"))
    assert await there.end(await begin(there, "a"))
    assert await here.read("a", ANNA) is Gone.ENDED


@contract(SHARED)
async def test_server_that_slept_past_its_lease_writes_nothing_once_another_began(
    one: Open,
) -> None:
    here, there = await one(), await one()
    await here.create([new("a"), new("b")])
    slept, alone = await begin(here, "a"), await begin(here, "b")
    for store in (here, there):
        let_pass(store, LEASE_SECONDS + 1.0)
    taken = await begin(there, "a")
    assert not await here.renew(slept)
    assert not await here.commit(slept, change(0, 1, b"of the sleeper"))
    assert await there.commit(taken, change(0, 1, b"of the other"))
    assert not await here.commit(slept, change(0, 1, b"of the sleeper"))
    assert await contents(here, "a") == Contents(b"head 1", (b"mark 0", b"of the other"))
    assert await here.commit(alone, change(0, 1, b"nobody took it"))
