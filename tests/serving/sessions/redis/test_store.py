"""What a store in a Redis does where that is away, full or damaged."""

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as LostError

from serving.sessions.redis import scripts
from serving.sessions.redis.pipeline import Word
from serving.sessions.store import Contents, Found, Gone
from tests.serving.key_servers import KeyServer, running
from tests.serving.running import PATIENCE
from tests.serving.sessions.redis.stores import (
    ANNA,
    begin,
    change,
    comes_back,
    is_usable,
    kinds,
    new,
    settings,
    store_at,
)
from unroll.errors import StoreError


@kinds
def test_server_that_is_away_is_a_typed_error_and_its_return_is_noticed(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with running(kind, tmp_path) as server:
            reached = settings(server.url, timeout_seconds=2.0)
            async with store_at(reached) as store:
                await store.create([new("a")])
                lease = await begin(store, "a")
                server.stop()
                with pytest.raises(StoreError, match="GetSession, or send expected_position") as no:
                    await store.commit(lease, change(b"new"))
                assert no.value.retry_after == 1.0
                assert store.has_failed
                server.start()
                assert await is_usable(store)
                assert not store.has_failed
                assert store.turns == [True, False]
        assert f"server 127.0.0.1:{server.port}" in caplog.text

    asyncio.run(scenario())


@kinds
def test_server_that_does_not_answer_costs_no_more_than_the_limit(
    kind: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        with running(kind, tmp_path) as server:
            async with store_at(settings(server.url, timeout_seconds=1.0)) as store:
                await store.create([new("a")])
                server.process.send_signal(19)  # SIGSTOP
                try:
                    async with asyncio.timeout(PATIENCE):
                        with pytest.raises(StoreError, match="does not answer"):
                            await store.begin("a", ANNA)
                finally:
                    server.process.send_signal(18)
                async with asyncio.timeout(PATIENCE):
                    while not await comes_back(store):
                        await asyncio.sleep(0.05)

    asyncio.run(scenario())


@kinds
def test_key_that_is_no_session_keeps_none_from_expiring(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        with running(kind, tmp_path) as server:
            async with store_at(settings(server.url)) as store:
                await store.create([new("a"), new("b")])
                with server.client as client:
                    client.set("{p}:session:a", "not ours")
                    client.zadd("{p}:used", {"a": 1, "b": 2})
                    client.hset("{p}:session:b", "u", "2")
                    store._idle_seconds = 60.0
                    assert await store.expire() == 1
                    assert client.get("{p}:session:a") == b"not ours"
                assert await store.read("b", ANNA) is Gone.EXPIRED

    asyncio.run(scenario())


@kinds
def test_full_memory_keeps_no_lease_from_being_given_back(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        with running(kind, tmp_path) as server:
            async with store_at(settings(server.url)) as store:
                await store.create([new("a")])
                lease = await begin(store, "a")
                with server.client as client:
                    client.config_set("maxmemory", "1")
                    await store.release(lease)
                    client.config_set("maxmemory", "0")
                assert await begin(store, "a") != lease

    asyncio.run(scenario())


@kinds
def test_full_memory_is_told_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        with running(kind, tmp_path) as server:
            async with store_at(settings(server.url)) as store:
                await store.create([new("a")])
                lease = await begin(store, "a")
                with server.client as client:
                    client.config_set("maxmemory", "1")
                    with pytest.raises(StoreError, match="is full, and the session stays"):
                        await store.commit(lease, change(b"new"))
                    with pytest.raises(StoreError, match="is full"):
                        await store.create([new("b")])
                    client.config_set("maxmemory", "0")
                found = await store.read("a", ANNA)
                assert isinstance(found, Found)
                assert found.contents == Contents(b"head", (b"mark",))
                assert await store.read("b", ANNA) is Gone.UNKNOWN
                assert await store.commit(lease, change(b"new"))

    asyncio.run(scenario())


def test_commit_whose_answer_was_lost_is_written_once(redis: KeyServer) -> None:
    """The connection breaks after the server has the commit; the second try finds it written."""

    async def scenario() -> None:
        async with store_at(settings(redis.url, prefix="lost")) as store:
            await store.create([new("a")])
            lease = await begin(store, "a")
            with redis.client as client:
                client.execute_command("CLIENT", "PAUSE", "300", "ALL")
            writing = asyncio.create_task(store.commit(lease, change(b"new")))
            await asyncio.sleep(0.05)
            assert store._pipeline._line is not None
            store._pipeline._line._transport.abort()
            assert await writing
            found = await store.read("a", ANNA)
            assert isinstance(found, Found)
            assert found.contents == Contents(b"head", (b"mark", b"new"))

    asyncio.run(scenario())


def test_commit_whose_answer_was_lost_may_be_written_though_another_server_went_on(
    redis: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = settings(redis.url, prefix="went-on")

    async def scenario() -> None:
        async with store_at(reached) as store, store_at(reached) as other:
            await store.create([new("a")])
            lease = await begin(store, "a")
            call = store._pipeline.call

            async def lose(*command: Word) -> object:
                monkeypatch.setattr(store._pipeline, "call", call)
                _, is_written = await call("EVAL", scripts.COMMIT, *command[2:])
                assert is_written
                assert await other.commit(await begin(other, "a"), change(b"other"))
                raise LostError("its answer did not come")

            monkeypatch.setattr(store._pipeline, "call", lose)
            with pytest.raises(StoreError, match="may have done so or not"):
                await store.commit(lease, change(b"new"))

    asyncio.run(scenario())


def test_session_that_lacks_a_mark_is_damaged_and_no_accident(redis: KeyServer) -> None:
    async def scenario() -> None:
        async with store_at(settings(redis.url, prefix="damaged")) as store:
            await store.create([new("a")])
            with redis.client as client:
                client.hdel("{damaged}:session:a", "m0")
            found = await store.read("a", ANNA)
            assert isinstance(found, Found)
            assert found.contents == Contents(b"head", (b"",))

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", ["u", "t", "h", "f", "n"])
def test_damaged_session_is_no_failure_of_the_store(redis: KeyServer, lost: str) -> None:
    async def scenario() -> None:
        async with store_at(settings(redis.url, prefix="part")) as store:
            await store.create([new("a")])
            with redis.client as client:
                client.hdel("{part}:session:a", lost)
            found = await store.read("a", ANNA)
            assert isinstance(found, Found)
            assert found.contents == Contents(b"", ())
            lease = await begin(store, "a")
            assert not await store.renew(lease)
            assert store.turns == []  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_key_that_is_no_session_is_unknown_and_no_failure(redis: KeyServer) -> None:
    async def scenario() -> None:
        async with store_at(settings(redis.url, prefix="other")) as store:
            await store.create([new("a")])
            lease = await begin(store, "a")
            with redis.client as client:
                client.set("{other}:session:a", "not ours")
            assert await store.read("a", ANNA) is Gone.UNKNOWN
            assert not await store.renew(lease)
            assert not await store.commit(lease, change(b"new"))
            assert not await store.end(lease)
            assert store.turns == []  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_scripts_that_redis_has_forgotten_are_sent_again(redis: KeyServer) -> None:
    async def scenario() -> None:
        async with store_at(settings(redis.url, prefix="forgotten")) as store:
            await store.create([new("a")])
            lease = await begin(store, "a")
            with redis.client as client:
                client.script_flush()
            assert await store.commit(lease, change(b"new"))

    asyncio.run(scenario())
