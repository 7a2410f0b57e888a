"""Folders that are locked, old, new, full, damaged, away or another's."""

import asyncio
import multiprocessing
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from serving.sessions.disk import schema as disk_schema
from serving.sessions.disk.store import DiskStore
from serving.sessions.store import Contents, Found, Gone
from tests.serving.sessions.disk.stores import ANNA, BERT, begin, change, lock, new
from unroll.errors import SettingsError, StoreError


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
        assert not other.in_transaction
        migrated.join()
    asyncio.run(store.close())


def test_start_waits_for_another_process_that_sets_up_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.sessions.disk.transactions.BUSY_SECONDS", 0.01)
    path = tmp_path / "sessions.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE empty (number)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM empty").fetchall()  # holds the file, not yet in WAL mode
        is_set_up = threading.Timer(0.2, other.execute, ["COMMIT"])
        is_set_up.start()
        store = DiskStore(tmp_path)
        assert not other.in_transaction
        is_set_up.join()
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


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sessions.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(SettingsError, match=r"state_dir = .*: sessions\.sqlite3 cannot be used"):
        DiskStore(tmp_path)
    with pytest.raises(SettingsError, match="is a file, and a folder is wanted; change --state"):
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


def test_database_is_for_its_owner_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    DiskStore(tmp_path / "state")._close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "sessions.sqlite3").stat().st_mode & 0o777 == 0o600
    assert not caplog.records
    (tmp_path / "state").chmod(0o755)
    DiskStore(tmp_path / "state")._close()
    assert "chmod 700 keeps them out" in caplog.text


@pytest.mark.parametrize("folder", ["/proc/self", "/sys/kernel"])
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
