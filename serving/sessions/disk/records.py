"""Sessions as rows of an SQLite database: what a store does, as statements of a transaction."""

import sqlite3
from collections.abc import Callable, Sequence

from serving.sessions.store import (
    FATE_SECONDS,
    LEASE_SECONDS,
    Busy,
    Change,
    Contents,
    Found,
    Gone,
    Lease,
    NewSession,
)

PORTION = 1000  # sessions that expire in one transaction
_ROW = "SELECT key, owner, used, tag, lease, until, first, head FROM sessions WHERE id = ?"
_GONE = "INSERT OR REPLACE INTO gone SELECT id, '{}', ?, owner FROM sessions WHERE {}"


class DiskRecords:
    """The methods of a SessionStore, each within a transaction of the connection it is given.

    Args:
        now: tells the time, in the database's seconds.
        idle_seconds: sessions unused for longer expire; 0 keeps them for ever.
    """

    def __init__(self, now: Callable[[], float], idle_seconds: float) -> None:
        self._now = now
        self._idle_seconds = idle_seconds

    def create(
        self, sessions: Sequence[NewSession], at_most: int, db: sqlite3.Connection
    ) -> int | None:
        """See SessionStore."""
        owner = sessions[0].owner
        if at_most:
            there = "SELECT count(*) FROM sessions WHERE owner = ?"
            count: int = db.execute(there, (owner,)).fetchone()[0]
            if count + len(sessions) > at_most:
                return count
        for each in sessions:
            made = db.execute(
                "INSERT OR IGNORE INTO sessions (id, owner, used, tag, head) "
                "VALUES (?, ?, ?, ?, ?)",
                (each.session_id, owner, self._now(), each.tag, each.contents.head),
            )
            if made.rowcount:
                assert made.lastrowid is not None
                _add_marks(db, made.lastrowid, 0, each.contents.marks)
        return None

    def read(
        self, session_id: str, owner: bytes, known: bytes, db: sqlite3.Connection
    ) -> Found | Gone:
        """See SessionStore."""
        found = self._find(session_id, owner, known, db)
        return found[0] if isinstance(found, tuple) else found

    def _find(
        self, session_id: str, owner: bytes, known: bytes, db: sqlite3.Connection
    ) -> tuple[Found, float] | Gone:
        """Return what is found, and for how long somebody holds its lease."""
        row = db.execute(_ROW, (session_id,)).fetchone()
        if row is None:
            asked = "SELECT fate FROM gone WHERE id = ? AND ifnull(owner, ?2) = ?2"
            fate = db.execute(asked, (session_id, owner)).fetchone()
            return Gone.UNKNOWN if fate is None else Gone(fate[0])
        key, its_owner, used, tag, lease, until, _, head = row
        if its_owner != owner:
            return Gone.UNKNOWN
        now = self._now()
        held = 0.0 if lease is None else until - now
        idle = 0.0 if held > 0 else now - used
        if 0 < self._idle_seconds < idle:
            return Gone.EXPIRED  # `expire` removes it soon
        contents = None if tag == known else Contents(head, _marks(db, key))
        return Found(tag, idle, contents), held

    def begin(
        self, session_id: str, owner: bytes, known: bytes, key: bytes, db: sqlite3.Connection
    ) -> Lease | Busy | Gone:
        """See SessionStore."""
        found = self._find(session_id, owner, known, db)
        if isinstance(found, Gone):
            return found
        if found[1] > 0:
            return Busy(found[1])
        now = self._now()
        db.execute(
            "UPDATE sessions SET lease = ?, until = ?, used = ? WHERE id = ?",
            (key, now + LEASE_SECONDS, now, session_id),
        )
        return Lease(session_id, owner, key, found[0])

    def renew(self, lease: Lease, db: sqlite3.Connection) -> bool:
        """See SessionStore."""
        now = self._now()
        renewed = "UPDATE sessions SET until = ?, used = ? WHERE id = ? AND lease = ?"
        values = (now + LEASE_SECONDS, now, lease.session_id, lease.key)
        return db.execute(renewed, values).rowcount == 1

    def release(self, lease: Lease, db: sqlite3.Connection) -> None:
        """See SessionStore."""
        released = "UPDATE sessions SET lease = NULL, used = ? WHERE id = ? AND lease = ?"
        db.execute(released, (self._now(), lease.session_id, lease.key))

    def commit(self, lease: Lease, change: Change, db: sqlite3.Connection) -> bool:
        """See SessionStore."""
        row = db.execute(_ROW, (lease.session_id,)).fetchone()
        if row is None:
            return False
        key, _, _, tag, held, _, first, _ = row
        if tag == change.tag:
            return True
        if held != lease.key or tag != lease.found.tag:
            return False
        start, stop = first + change.skip, first + change.stop
        dropped = "DELETE FROM marks WHERE session = ? AND (number < ? OR number >= ?)"
        db.execute(dropped, (key, start, stop))
        _add_marks(db, key, stop, change.add)
        db.execute(
            "UPDATE sessions SET used = ?, tag = ?, lease = NULL, first = ?, head = ? "
            "WHERE key = ?",
            (self._now(), change.tag, start, change.head, key),
        )
        return True

    def end(self, lease: Lease, db: sqlite3.Connection) -> bool:
        """See SessionStore."""
        which = (lease.session_id, lease.key)
        ended = _GONE.format(Gone.ENDED.value, "id = ? AND lease = ?")
        if not db.execute(ended, (self._now(), *which)).rowcount:
            fate = "SELECT fate FROM gone WHERE id = ? AND owner = ?"
            found = db.execute(fate, (lease.session_id, lease.owner)).fetchone()
            return bool(found == (Gone.ENDED.value,))
        _remove(db, [lease.session_id])
        return True

    def expire(self, db: sqlite3.Connection) -> int:
        """Remove a portion of what is too old; return how many sessions."""
        now = self._now()
        self.note_time(db)
        db.execute("DELETE FROM gone WHERE at < ?", (now - FATE_SECONDS,))
        if not self._idle_seconds:
            return 0
        old = "used < ? AND (lease IS NULL OR until <= ?) ORDER BY used LIMIT ?"
        which = (now - self._idle_seconds, now, PORTION)
        ids = [row[0] for row in db.execute(f"SELECT id FROM sessions WHERE {old}", which)]
        expired = _GONE.format(Gone.EXPIRED.value, "id = ?")
        db.executemany(expired, [(now, each) for each in ids])
        _remove(db, ids)
        return len(ids)

    def note_time(self, db: sqlite3.Connection) -> None:
        """Write down the time, at which the next process begins to count."""
        db.execute("UPDATE clock SET now = ?", (self._now(),))

    def count(self, db: sqlite3.Connection) -> int:
        """See SessionStore."""
        count: int = db.execute("SELECT count(*) FROM sessions").fetchone()[0]
        return count


def _marks(db: sqlite3.Connection, key: int) -> tuple[bytes, ...]:
    asked = "SELECT data FROM marks WHERE session = ? ORDER BY number"
    return tuple(row[0] for row in db.execute(asked, (key,)))


def _add_marks(db: sqlite3.Connection, key: int, first: int, marks: Sequence[bytes]) -> None:
    rows = [(key, number, data) for number, data in enumerate(marks, first)]
    db.executemany("INSERT INTO marks VALUES (?, ?, ?)", rows)


def _remove(db: sqlite3.Connection, ids: list[str]) -> None:
    marks = "DELETE FROM marks WHERE session = (SELECT key FROM sessions WHERE id = ?)"
    db.executemany(marks, [(each,) for each in ids])
    db.executemany("DELETE FROM sessions WHERE id = ?", [(each,) for each in ids])
