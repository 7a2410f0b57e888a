"""What the store on disk does besides the contract: restarts, damage, full disks, odd clocks."""

import asyncio
import multiprocessing
import os
import secrets
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from serving.sessions.disk import schema as disk_schema
from serving.sessions.disk.store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.store import Busy, Change, Contents, Found, Gone, Lease, NewSession
from unroll.errors import SettingsError, StoreError

ANNA, BERT = b"a" * 16, b"b" * 16


def new(name: str, mark: bytes = b"mark") -> NewSession:
    return NewSession(name, ANNA, secrets.token_bytes(16), Contents(b"head", (mark,)))


def change(*marks: bytes) -> Change:
    return Change(secrets.token_bytes(16), b"head", 0, 0, marks)


async def begin(store: DiskStore, name: str) -> Lease:
    begun = await store.begin(name, ANNA)
    assert isinstance(begun, Lease), begun
    return begun


def test_start_waits_for_another_process_that_migrates_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(DiskStore(tmp_path).close())
    monkeypatch.setattr("serving.sessions.disk.transactions.BUSY_SECONDS", 0.01)
    path = tmp_path / "sessions.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        migrated = threading.Timer(0.2, other.execute, ["COMMIT"])
        migrated.start()
        store = DiskStore(tmp_path)
        migrated.join()
    asyncio.run(store.close())


def test_start_gives_up_on_a_database_that_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(DiskStore(tmp_path).close())
    monkeypatch.setattr("serving.sessions.disk.transactions.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("serving.sessions.disk.folder.START_SECONDS", 0.05)
    path = tmp_path / "sessions.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SettingsError, match="database is locked"):
            DiskStore(tmp_path)


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


def hold(folder: Path, is_held: "multiprocessing.synchronize.Event") -> None:
    """Take a lease in a process of its own, and never give it back."""

    async def scenario() -> None:
        store = DiskStore(folder)
        await store.create([new("a")])
        await begin(store, "a")
        is_held.set()
        await asyncio.Event().wait()

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


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sessions.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(SettingsError, match=r"state_dir = .*: sessions\.sqlite3 cannot be used"):
        DiskStore(tmp_path)
    with pytest.raises(SettingsError, match="cannot be used"):
        DiskStore(tmp_path / "sessions.sqlite3")


def test_database_of_a_newer_version_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {disk_schema.VERSION + 1}")
        newer.commit()
    with pytest.raises(SettingsError, match="version 3, this server reads up to 2"):
        DiskStore(tmp_path)
    with closing(sqlite3.connect(path)) as newer:
        assert newer.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


OLD = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, used REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX sessions_used ON sessions (used);
CREATE TABLE clock (only INTEGER PRIMARY KEY CHECK (only = 0), now REAL NOT NULL);
CREATE INDEX sessions_owner ON sessions (substr(data, 35, 16));
CREATE TABLE gone (id TEXT PRIMARY KEY, fate TEXT NOT NULL, at REAL NOT NULL{owner});
CREATE INDEX gone_at ON gone (at);
INSERT INTO clock VALUES (0, 5000.0);
INSERT INTO gone (id, fate, at) VALUES ('ended', 'ended', 4000.0);
"""


@pytest.mark.parametrize("owner", ["", ", owner BLOB"])
def test_database_of_version_1_is_migrated(tmp_path: Path, owner: str) -> None:
    records = {name: bytes(34) + ANNA + name.encode() * 3000 for name in "xyz"}
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite3")) as old:
        old.executescript(OLD.format(owner=owner))
        rows = [(name, 4900.0, data) for name, data in records.items()]
        old.executemany("INSERT INTO sessions VALUES (?, ?, ?)", rows)
        old.commit()

    async def scenario() -> None:
        for _ in range(2):
            store = DiskStore(tmp_path, 200.0)
            assert store.now() == pytest.approx(5000.0, abs=60.0)
            assert store.count() == 3
            for name, data in records.items():
                found = await store.read(name, ANNA)
                assert isinstance(found, Found)
                assert found.contents == Contents(data, ())
                assert found.idle == pytest.approx(100.0, abs=60.0)
                assert await store.read(name, BERT) is Gone.UNKNOWN
            assert await store.read("ended", ANNA) is Gone.ENDED
            assert await store.create([new("w")], 3) == 3
            await store.close()
        store = DiskStore(tmp_path)
        assert await store.commit(await begin(store, "x"), change(b"1", b"2"))
        found = await store.read("x", ANNA)
        assert isinstance(found, Found)
        assert found.contents == Contents(b"head", (b"1", b"2"))
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


def test_server_of_an_older_version_keeps_others_out(tmp_path: Path) -> None:
    DiskStore(tmp_path)._close()
    older = multiprocessing.get_context("spawn").Process(target=lock, args=(tmp_path,))
    older.start()
    while not (tmp_path / "locked").exists():
        time.sleep(0.01)
    with pytest.raises(SettingsError, match="older version uses this folder; stop it first"):
        DiskStore(tmp_path)
    older.kill()
    older.join()
    DiskStore(tmp_path)._close()


def lock(folder: Path) -> None:
    """Lock a folder as version 0.1 did."""
    import fcntl  # another process

    descriptor = os.open(folder / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / "locked").touch()
    signal.pause()


def test_database_is_for_its_owner_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    DiskStore(tmp_path / "state")._close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "sessions.sqlite3").stat().st_mode & 0o777 == 0o600
    assert not caplog.records
    (tmp_path / "state").chmod(0o755)
    DiskStore(tmp_path / "state")._close()
    assert "chmod 700 keeps them out" in caplog.text


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


@pytest.mark.parametrize("folder", ["/proc/self", "/sys/kernel", "/dev/null"])
def test_folder_that_cannot_be_written_to_is_refused(folder: str) -> None:
    told = rf"state_dir = '{folder}': sessions\.sqlite3 cannot be used: .*; .* --state-dir"
    with pytest.raises(SettingsError, match=told):
        DiskStore(Path(folder))


def test_full_disk_is_known_and_so_is_its_end(tmp_path: Path) -> None:
    turns: list[bool] = []

    async def scenario() -> None:
        disk = DiskStore(tmp_path, on_change=lambda: turns.append(disk.has_failed))
        await disk.create([new("a")])
        disk._writes._db.execute("PRAGMA max_page_count = 1")  # as many as there are
        for number in range(3):
            with pytest.raises(StoreError, match="could not be written"):
                await disk.create([new(str(number), bytes(100_000))])
        assert isinstance(await disk.read("a", ANNA), Found)
        disk._writes._db.execute("PRAGMA max_page_count = 100000")
        await disk.create([new("b")])
        await disk.close()

    asyncio.run(scenario())
    assert turns == [True, False]


def test_folder_that_is_removed_while_the_server_runs_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path / "state")
        await store.create([new("a")])
        assert isinstance(await store.read("a", ANNA), Found)
        shutil.rmtree(tmp_path / "state")
        with pytest.raises(StoreError, match="could not be read"):
            await store.read("a", ANNA)
        with pytest.raises(StoreError, match="could not be written"):
            await store.create([new("b")])
        await store.close()

    asyncio.run(scenario())


def test_damaged_pages_are_a_typed_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        await asyncio.gather(*(store.create([new(str(n), bytes(4000))]) for n in range(50)))
        await store.close()
        path = tmp_path / "sessions.sqlite3"
        store = DiskStore(tmp_path)
        data = bytearray(path.read_bytes())
        data[8192:] = b"\xff" * (len(data) - 8192)
        path.write_bytes(bytes(data))
        reads = (store.read(str(number), ANNA) for number in range(50))
        with pytest.raises(StoreError, match="could not be read"):
            await asyncio.gather(*reads)
        await store.close()

    asyncio.run(scenario())


def test_memory_evicts_the_least_recently_used_that_nobody_uses() -> None:
    async def scenario() -> None:
        store = MemoryStore(2)
        await store.create([new("a"), new("b")])
        lease = await store.begin("a", ANNA)
        assert isinstance(lease, Lease)
        await store.release(lease)
        await store.create([new("c")])
        assert await store.read("b", ANNA) is Gone.EVICTED
        assert isinstance(await store.begin("a", ANNA), Lease)
        await store.create([new("d")])
        assert isinstance(await store.read("a", ANNA), Found)
        assert await store.read("c", ANNA) is Gone.EVICTED
        assert (len(store), store.evicted) == (2, 2)

    asyncio.run(scenario())


def test_memory_forgets_the_oldest_fates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.sessions.memory_store.FATES_AT_MOST", 2)

    async def scenario() -> None:
        store = MemoryStore(9)
        for name in "abc":
            await store.create([new(name)])
            lease = await store.begin(name, ANNA)
            assert isinstance(lease, Lease)
            assert await store.end(lease)
        fates = [await store.read(name, ANNA) for name in "abc"]
        assert fates == [Gone.UNKNOWN, Gone.ENDED, Gone.ENDED]

    asyncio.run(scenario())
