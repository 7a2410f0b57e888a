"""The database that a folder of sessions holds, and how an older one becomes it."""

import sqlite3
import time

VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner BLOB NOT NULL, used REAL NOT NULL,
    tag BLOB NOT NULL, lease BLOB, until REAL, first INTEGER NOT NULL DEFAULT 0, head BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_used ON sessions (used);
CREATE INDEX IF NOT EXISTS sessions_owner ON sessions (owner);
CREATE TABLE IF NOT EXISTS marks (
    session INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    UNIQUE (session, number)
);
CREATE TABLE IF NOT EXISTS gone
    (id TEXT PRIMARY KEY, fate TEXT NOT NULL, at REAL NOT NULL, owner BLOB);
CREATE INDEX IF NOT EXISTS gone_at ON gone (at);
CREATE TABLE IF NOT EXISTS clock
    (only INTEGER PRIMARY KEY CHECK (only = 0), now REAL NOT NULL, starts REAL NOT NULL);
"""
_OWNER = "substr(data, 35, 16)"  # of a record of version 1, which held a whole session
_MIGRATION = f"""
DROP INDEX IF EXISTS sessions_used;
DROP INDEX IF EXISTS sessions_owner;
DROP TABLE IF EXISTS clock;
ALTER TABLE sessions RENAME TO records;
{_TABLES}
INSERT INTO sessions (id, owner, used, tag, head)
    SELECT id, {_OWNER}, used, randomblob(16), data FROM records;
DROP TABLE records;
"""


def prepare(db: sqlite3.Connection, *, is_alone: bool) -> float:
    """Make or migrate the tables, within the caller's transaction.

    Args:
        db: the database.
        is_alone: whether no other process uses it; leases that are there then hold no more.

    Returns:
        When this machine's monotonic clock stood at 0, in the database's time.

    Raises:
        sqlite3.Error: it cannot be used, or a newer version wrote it.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.DatabaseError(f"it has version {version}, this server reads up to {VERSION}")
    columns = {row[1] for row in db.execute("PRAGMA table_info(sessions)")}
    last = _last_seen(db, columns)
    if "data" in columns:
        if "owner" not in {row[1] for row in db.execute("PRAGMA table_info(gone)")}:
            db.execute("ALTER TABLE gone ADD COLUMN owner BLOB")  # version 0.1 had none
        _run(db, _MIGRATION)
    else:
        _run(db, _TABLES)
    db.execute(f"PRAGMA user_version = {VERSION}")
    row = db.execute("SELECT starts FROM clock").fetchone()
    if row is None or is_alone:
        row = (last - time.monotonic(),)
        db.execute("INSERT OR REPLACE INTO clock VALUES (0, ?, ?)", (last, *row))
    if is_alone:
        db.execute("UPDATE sessions SET lease = NULL, until = NULL WHERE lease IS NOT NULL")
    starts: float = row[0]
    return starts


def _last_seen(db: sqlite3.Connection, columns: set[str]) -> float:
    """Return the latest time that anything here was written by; today where nothing was."""
    if not columns:
        return time.time()
    clocks = db.execute("SELECT name FROM sqlite_master WHERE name = 'clock'").fetchall()
    used = db.execute("SELECT max(used) FROM sessions").fetchone()[0]
    now = db.execute("SELECT now FROM clock").fetchone() if clocks else None
    seen = [each for each in (used, now and now[0]) if each is not None]
    return max(seen, default=time.time())


def _run(db: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";"):  # executescript would end the transaction
        db.execute(statement)
