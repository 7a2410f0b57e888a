"""Faults that a history must find, each alone."""

from dataclasses import replace

from serving.sessions.cached_store import CachedStore
from serving.sessions.redis import scripts as redis_scripts
from serving.sessions.store import TAG_BYTES, Change, Lease


def _change(script: str, check: str, by: str) -> None:
    text = getattr(redis_scripts, script)
    assert check in text, f"{script} has no {check!r}"
    setattr(redis_scripts, script, text.replace(check, by))


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


PLANTED = {"lease": check_no_lease, "tag": check_no_tag, "counter": count_tags}
