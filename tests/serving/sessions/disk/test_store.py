"""What is on the disk is there for the next server, however the one before ended."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from serving.sessions.disk.store import DiskStore
from serving.sessions.store import Busy, Contents, Found, Gone, Lease
from tests.serving.sessions.disk.stores import ANNA, BERT, begin, hold, new
from unroll.errors import StoreError


def test_new_store_on_the_same_folder_has_everything(tmp_path: Path) -> None:
    mark = bytes(range(256))

    async def write(store: DiskStore) -> None:
        await store.create([new("kept", mark), new("ended")])
        assert await store.end(await begin(store, "ended"))

    async def read(store: DiskStore) -> None:
        found = await store.read("kept", ANNA)
        assert isinstance(found, Found)
        assert found.contents == Contents(b"head", (mark,))
        assert await store.read("ended", ANNA) is Gone.ENDED
        assert await store.read("ended", BERT) is Gone.UNKNOWN
        assert store.count() == 1

    async def scenario() -> None:
        for use in (write, read):
            store = DiskStore(tmp_path)
            await use(store)
            await store.close()
            await store.close()

    asyncio.run(scenario())


def test_leases_of_a_killed_server_end_with_it_unless_another_still_runs(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    is_held = spawn.Event()
    killed = spawn.Process(target=hold, args=(tmp_path, is_held))
    killed.start()
    assert is_held.wait(60)

    async def scenario() -> None:
        other = DiskStore(tmp_path)
        assert isinstance(await other.begin("a", ANNA), Busy)
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        assert isinstance(await other.begin("a", ANNA), Busy)  # until its time is over
        await other.close()
        alone = DiskStore(tmp_path)
        assert isinstance(await alone.begin("a", ANNA), Lease)
        await alone.close()

    asyncio.run(scenario())


def test_writes_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        begun: list[str] = []
        store._writes._db.set_trace_callback(
            lambda sql: begun.append(sql) if "BEGIN" in sql else None
        )
        await asyncio.gather(*(store.create([new(str(n))]) for n in range(500)))
        assert store.count() == 500
        assert 1 <= len(begun) <= 50
        await store.close()

    asyncio.run(scenario())


def test_failed_transaction_leaves_the_store_working(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await store.create([new("a")])
        lease = await begin(store, "a")
        store._writes._db.execute("ALTER TABLE gone RENAME TO away")
        with pytest.raises(StoreError, match="could not be written"):
            await store.expire()
        with pytest.raises(StoreError, match="try again later"):
            await store.end(lease)
        store._writes._db.execute("ALTER TABLE away RENAME TO gone")
        assert await store.end(lease)
        await store.close()

    asyncio.run(scenario())


def test_fates_are_forgotten_after_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await store.create([new("a")])
        await store.end(await begin(store, "a"))
        monkeypatch.setattr("serving.sessions.disk.records.FATE_SECONDS", -1.0)
        await store.expire()
        assert await store.read("a", ANNA) is Gone.UNKNOWN
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("days", [2.0, -2.0])
def test_wall_clock_that_jumps_while_the_server_is_down_or_up_expires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    today = time.time()

    async def scenario() -> None:
        store = DiskStore(tmp_path, 3600.0)
        await store.create([new("a")])
        monkeypatch.setattr(time, "time", lambda: today + days * 86400)
        assert await store.expire() == 0
        await store.close()
        store = DiskStore(tmp_path, 3600.0)
        await store.create([new("b")])
        assert abs(store.now() - today) < 60.0
        monkeypatch.setattr(time, "time", lambda: today)
        assert await store.expire() == 0
        assert [type(await store.read(each, ANNA)) for each in "ab"] == [Found, Found]
        await store.close()

    asyncio.run(scenario())


def test_servers_of_one_folder_have_one_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        first = DiskStore(tmp_path)
        today = time.time()
        monkeypatch.setattr(time, "time", lambda: today + 3600.0)
        second = DiskStore(tmp_path)
        assert second.now() == pytest.approx(first.now(), abs=60.0)
        await first.close()
        await second.close()

    asyncio.run(scenario())


def test_reads_do_not_wait_for_a_database_that_another_process_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.sessions.disk.transactions.BUSY_SECONDS", 0.01)

    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await store.create([new("a")])
        with closing(sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert isinstance(await store.read("a", ANNA), Found)
            assert store.count() == 1
            with pytest.raises(StoreError, match="could not be written"):
                await store.begin("a", ANNA)
            await store.close()  # tells in the log what is lost, and raises nothing
        assert "the last sessions could not be saved" in caplog.text

    asyncio.run(scenario())
