"""Faults that a history must find, each alone."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from serving.rpc.session_servicer import SessionServicer
from serving.sessions.cached_store import CachedStore
from serving.sessions.redis import scripts
from serving.sessions.store import TAG_BYTES, Busy, Change, Gone, Lease


def _change(script: str, check: str, by: str) -> None:
    text = getattr(scripts, script)
    assert check in text, f"{script} has no {check!r}"
    setattr(scripts, script, text.replace(check, by))


def check_no_lease() -> None:
    """Let requests begin while another has the lease, and commit without theirs."""
    _change("FIND", "held > 0 and s[5] ~= ARGV[6]", "false")
    _change("COMMIT", "s[1] ~= ARGV[4] or s[2] ~= ARGV[3]", "s[1] ~= ARGV[4]")


def check_no_tag() -> None:
    """Believe each copy of a session to be the last one, and commit whatever it started from."""
    _change("FIND", "s[4] == ARGV[4]", "ARGV[4] ~= ''")
    _change("COMMIT", "s[1] ~= ARGV[4] or s[2] ~= ARGV[3]", "s[2] ~= ARGV[3]")


def count_tags() -> None:
    """Count instead of drawing tags at random."""
    commit = CachedStore.commit

    async def counted(self: CachedStore, lease: Lease, change: Change) -> bool:
        tag = (int.from_bytes(lease.found.tag) + 1) % 2 ** (8 * TAG_BYTES)
        return await commit(self, lease, replace(change, tag=tag.to_bytes(TAG_BYTES)))

    CachedStore.commit = counted  # type: ignore[method-assign]


def _believe_copies(method: str) -> None:
    """Let one kind of call use the server's own copy of a session, whatever its tag."""
    is_called = ContextVar("is_called", default=False)
    call, begin = getattr(SessionServicer, method), CachedStore.begin

    async def called(self: SessionServicer, *values: Any) -> Any:
        is_called.set(True)
        return await call(self, *values)

    async def begun(
        self: CachedStore, session_id: str, owner: bytes, known: bytes = b""
    ) -> Lease | Busy | Gone:
        copy = self._copies.get(session_id)
        lease = await begin(self, session_id, owner, known)
        if not is_called.get() or copy is None or not isinstance(lease, Lease):
            return lease
        return replace(lease, found=replace(lease.found, contents=copy.contents))

    setattr(SessionServicer, method, called)
    CachedStore.begin = begun  # type: ignore[method-assign]


PLANTED: dict[str, Callable[[], None]] = {
    "lease": check_no_lease,
    "tag": check_no_tag,
    "counter": count_tags,
    "rewind": lambda: _believe_copies("RewindSession"),
    "fork": lambda: _believe_copies("ForkSession"),
}
