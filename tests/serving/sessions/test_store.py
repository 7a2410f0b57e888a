"""What every store of sessions does, and what each does besides."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serving.sessions.disk_store import DiskStore
from serving.sessions.store import OWNER, Gone, MemoryStore, Record, SessionStore
from serving.sessions.tiered_store import TieredStore
from unroll.errors import SettingsError, StoreError


def record(used: float, data: bytes = b"data") -> Record:
    return Record(used, data)


@pytest.fixture(params=["memory", "disk", "tiered", "tiered, none in memory but one"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SessionStore]:
    """One store of each kind."""
    made: SessionStore
    if request.param == "memory":
        made = MemoryStore(1000)
    elif request.param == "disk":
        made = DiskStore(tmp_path / "state")
    else:
        made = TieredStore(DiskStore(tmp_path / "state"), 1 if "one" in request.param else 1000)
    yield made
    made.close()


def test_contract_put_get_replace(store: SessionStore) -> None:
    async def scenario() -> None:
        assert await store.get("a", b"") is Gone.UNKNOWN
        await store.put("a", record(1.5, b"\x00one"))
        await store.put("b", record(2.5, b"two"))
        assert await store.get("a", b"") == record(1.5, b"\x00one")
        await store.put("a", record(3.5, b"three"))
        assert await store.get("a", b"") == record(3.5, b"three")
        assert await store.get("b", b"") == record(2.5, b"two")

    asyncio.run(scenario())


@pytest.mark.parametrize("gone", [Gone.ENDED, Gone.EXPIRED, Gone.EVICTED])
def test_contract_remove_remembers_why(store: SessionStore, gone: Gone) -> None:
    async def scenario() -> None:
        await store.put("a", record(1.0))
        await store.remove("a", gone)
        assert await store.get("a", b"") is gone
        await store.remove("never there", gone)
        assert await store.get("never there", b"") is Gone.UNKNOWN
        await store.put("a", record(2.0))
        assert await store.get("a", b"") == record(2.0)

    asyncio.run(scenario())


def owned(used: float, owner: bytes) -> Record:
    return Record(used, bytes(OWNER.start) + owner + b"and more")


def test_contract_count_of_follows_every_change(store: SessionStore) -> None:
    anna, bert = b"a" * 16, b"b" * 16

    async def counts() -> tuple[int, int]:
        return await store.count_of(anna), await store.count_of(bert)

    async def scenario() -> None:
        assert await counts() == (0, 0)
        for number in range(3):
            await store.put(f"a{number}", owned(number, anna))
        await store.put("b", owned(7.0, bert))
        await store.put("a0", owned(8.0, anna))  # again
        assert await counts() == (3, 1)
        await store.remove("a1", Gone.ENDED)
        assert await counts() == (2, 1)
        await store.expire(7.5)
        assert await counts() == (1, 0)

    asyncio.run(scenario())


def test_contract_expire_takes_the_long_unused_alone(store: SessionStore) -> None:
    async def scenario() -> None:
        for number in range(9):
            await store.put(str(number), record(float(number)))
        await store.put("0", record(20.0))
        assert await store.expire(5.0) == 4
        found = [await store.get(str(number), b"") for number in range(9)]
        assert found[1:5] == [Gone.EXPIRED] * 4
        assert found[0] == record(20.0)
        assert found[5:] == [record(float(number)) for number in range(5, 9)]
        assert await store.expire(5.0) == 0

    asyncio.run(scenario())


def test_contract_writes_at_the_same_time_are_all_kept(store: SessionStore) -> None:
    async def scenario() -> None:
        await asyncio.gather(*(store.put(str(n), record(float(n), b"%d" % n)) for n in range(300)))
        found = await asyncio.gather(*(store.get(str(n), b"") for n in range(300)))
        assert found == [record(float(n), b"%d" % n) for n in range(300)]

    asyncio.run(scenario())


def test_memory_evicts_the_least_recently_used() -> None:
    async def scenario() -> None:
        store = MemoryStore(2)
        await store.put("a", record(1.0))
        await store.put("b", record(2.0))
        await store.put("a", record(3.0))
        await store.put("c", record(4.0))
        assert await store.get("b", b"") is Gone.EVICTED
        assert await store.get("a", b"") == record(3.0)
        assert (len(store), store.evicted) == (2, 1)

    asyncio.run(scenario())


def test_memory_forgets_the_oldest_fates(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = MemoryStore(9)
        for name in "abc":
            await store.put(name, record(1.0))
            await store.remove(name, Gone.ENDED)
        assert [await store.get(name, b"") for name in "abc"] == [
            Gone.UNKNOWN, Gone.ENDED, Gone.ENDED,
        ]  # fmt: skip

    monkeypatch.setattr("serving.sessions.store.GONE_AT_MOST", 2)
    asyncio.run(scenario())


def test_new_store_on_the_same_folder_has_everything(tmp_path: Path) -> None:
    async def write(store: DiskStore) -> None:
        await store.put("kept", record(1.25, bytes(range(256))))
        await store.put("ended", record(2.0))
        await store.remove("ended", Gone.ENDED)

    async def read(store: DiskStore) -> None:
        assert await store.get("kept", bytes(range(256))[OWNER]) == record(1.25, bytes(range(256)))
        assert await store.get("ended", b"") is Gone.ENDED
        assert store.count() == 1

    for use in (write, read):
        store = DiskStore(tmp_path)
        asyncio.run(use(store))
        store.close()
        store.close()


def test_writes_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    begun = []
    store._db.set_trace_callback(lambda sql: begun.append(sql) if "BEGIN" in sql else None)

    async def scenario() -> None:
        await asyncio.gather(*(store.put(str(n), record(1.0)) for n in range(500)))

    asyncio.run(scenario())
    assert store.count() == 500
    assert 1 <= len(begun) <= 50
    store.close()


def test_failed_transaction_leaves_the_store_working(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)

    async def scenario() -> None:
        await store.put("a", record(1.0))
        store._db.execute("ALTER TABLE gone RENAME TO away")
        with pytest.raises(StoreError, match="could not be written"):
            await store.expire(9.0)
        with pytest.raises(StoreError, match="try again later"):
            await store.remove("a", Gone.ENDED)
        store._db.execute("ALTER TABLE away RENAME TO gone")
        assert await store.expire(9.0) == 1

    asyncio.run(scenario())
    store.close()


def test_fates_on_disk_are_forgotten_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(tmp_path)

    async def scenario() -> None:
        await store.put("a", record(1.0))
        await store.remove("a", Gone.ENDED)
        monkeypatch.setattr("serving.sessions.disk_store.GONE_SECONDS", -1.0)
        await store.expire(0.0)
        assert await store.get("a", b"") is Gone.UNKNOWN

    asyncio.run(scenario())
    store.close()


def test_spilled_records_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = TieredStore(DiskStore(tmp_path), 2)
        for number in range(5):
            await store.put(str(number), record(float(number), b"%d" % number))
        assert (len(store), store.spilled) == (2, 3)
        assert [await store.get(str(n), b"") for n in range(5)] == [
            record(float(n), b"%d" % n) for n in range(5)
        ]
        assert store.loaded == 3
        assert await store.spill(4.0) == 1
        assert await store.spill(9.0) == 1
        assert len(store) == 0
        assert await store.get("4", b"") == record(4.0, b"4")
        await store.remove("0", Gone.ENDED)
        assert await store.get("0", b"") is Gone.ENDED
        store.close()

    asyncio.run(scenario())


def test_cancelled_write_leaves_no_older_record_in_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = DiskStore(tmp_path)
        store = TieredStore(disk, 9)
        await store.put("a", record(1.0))
        writing = asyncio.create_task(store.put("a", record(2.0)))
        await asyncio.sleep(0)  # it has begun, and the disk's thread has it
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await store.get("a", b"") == await disk.get("a", b"") == record(2.0)
        store.close()

    asyncio.run(scenario())


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sessions.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(SettingsError, match=r"state_dir = .*: sessions\.sqlite3 cannot be used"):
        DiskStore(tmp_path)
    with pytest.raises(SettingsError, match="cannot be used"):
        DiskStore(tmp_path / "sessions.sqlite3")


def test_contract_touched_records_are_used_and_those_in_use_are_kept(store: SessionStore) -> None:
    async def scenario() -> None:
        for number in range(6):
            await store.put(str(number), record(float(number)))
        await store.touch({"1": 20.0, "never there": 20.0})
        assert await store.expire(5.0, lambda session_id: session_id == "3") == 3
        assert await store.get("1", b"") == record(20.0)
        assert await store.get("3", b"") == record(3.0)
        assert await store.get("2", b"") is Gone.EXPIRED
        assert await store.get("never there", b"") is Gone.UNKNOWN

    asyncio.run(scenario())


def test_contract_more_than_one_portion_expires(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("store", "disk_store"):
        monkeypatch.setattr(f"serving.sessions.{module}.PORTION", 4)

    async def scenario() -> None:
        for number in range(11):
            await store.put(str(number), record(float(number // 3)))
        assert await store.expire(9.0, lambda session_id: int(session_id) < 5) == 6
        assert await store.get("4", b"") == record(1.0)
        assert await store.get("10", b"") is Gone.EXPIRED

    asyncio.run(scenario())


@pytest.mark.parametrize("days", [2.0, -2.0])
def test_wall_clock_that_jumps_while_the_server_is_down_or_up_expires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    today = time.time()

    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await store.put("a", record(store.now()))
        monkeypatch.setattr(time, "time", lambda: today + days * 86400)
        assert await store.expire(store.now() - 3600.0) == 0
        store.close()
        store = DiskStore(tmp_path)
        await store.put("b", record(store.now()))
        assert abs(store.now() - today) < 60.0
        monkeypatch.setattr(time, "time", lambda: today)
        assert await store.expire(store.now() - 3600.0) == 0
        assert [type(await store.get(each, b"")) for each in "ab"] == [Record, Record]
        store.close()

    asyncio.run(scenario())


def test_second_server_on_a_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    first = DiskStore(tmp_path)
    with pytest.raises(SettingsError, match="another server uses this folder"):
        DiskStore(tmp_path)
    first.close()
    DiskStore(tmp_path).close()


def test_database_is_for_its_owner_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    DiskStore(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "sessions.sqlite3").stat().st_mode & 0o777 == 0o600
    assert not caplog.records
    (tmp_path / "state").chmod(0o755)
    DiskStore(tmp_path / "state").close()
    assert "chmod 700 keeps them out" in caplog.text


def test_reads_do_not_wait_for_a_database_that_another_process_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.sessions.disk_store.BUSY_SECONDS", 0.01)

    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await store.put("a", record(1.0))
        with closing(sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await store.get("a", b"") == record(1.0)
            assert store.count() == 1
            with pytest.raises(StoreError, match="could not be written"):
                await store.put("a", record(2.0))
            store.close()  # tells in the log what is lost, and raises nothing
        assert "the last sessions could not be saved" in caplog.text

    asyncio.run(scenario())


@pytest.mark.parametrize("folder", ["/proc/self", "/sys/kernel", "/dev/null"])
def test_folder_that_cannot_be_written_to_is_refused(folder: str) -> None:
    told = rf"state_dir = '{folder}': sessions\.sqlite3 cannot be used: .*; .* --state-dir"
    with pytest.raises(SettingsError, match=told):
        DiskStore(Path(folder))


def test_full_disk_is_known_and_so_is_its_end(tmp_path: Path) -> None:
    turns: list[bool] = []

    async def scenario() -> None:
        disk = DiskStore(tmp_path, lambda: turns.append(disk.has_failed))
        await disk.put("a", record(1.0))
        disk._db.execute("PRAGMA max_page_count = 1")  # as many as there are
        for number in range(3):
            with pytest.raises(StoreError, match="could not be written"):
                await disk.put(str(number), record(1.0, bytes(100_000)))
        assert await disk.get("a", b"") == record(1.0)
        disk._db.execute("PRAGMA max_page_count = 100000")
        await disk.put("b", record(1.0))
        disk.close()

    asyncio.run(scenario())
    assert turns == [True, False]


def test_folder_that_is_removed_while_the_server_runs_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path / "state")
        shutil.rmtree(tmp_path / "state")
        with pytest.raises(StoreError, match="could not be written"):
            await store.put("a", record(1.0))
        store.close()

    asyncio.run(scenario())


def test_damaged_pages_are_a_typed_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await asyncio.gather(*(store.put(str(n), record(1.0, bytes(4000))) for n in range(50)))
        store.close()
        path = tmp_path / "sessions.sqlite3"
        store = DiskStore(tmp_path)
        data = bytearray(path.read_bytes())
        data[8192:] = b"\xff" * (len(data) - 8192)
        path.write_bytes(bytes(data))
        reads = (store.get(str(number), b"") for number in range(50))
        with pytest.raises(StoreError, match="could not be read"):
            await asyncio.gather(*reads)
        store.close()

    asyncio.run(scenario())
