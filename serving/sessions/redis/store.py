"""Where the servers of several machines find the same sessions: a Redis or Valkey."""

import asyncio
import hashlib
import itertools
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from redis.exceptions import (
    InvalidResponse,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from serving.sessions.redis import scripts
from serving.sessions.redis.pipeline import Pipeline, Word
from serving.sessions.redis.servers import servers
from serving.sessions.redis.settings import RedisSettings
from serving.sessions.store import (
    FATE_SECONDS,
    LEASE_SECONDS,
    TAG_BYTES,
    Busy,
    Change,
    Contents,
    Found,
    Gone,
    Lease,
    NewSession,
)
from unroll.errors import SettingsError, StoreError

TRIES = 2  # of one access, when the connection breaks or nothing comes back
RETRY_SECONDS = 1.0  # what a client is told
PORTION = 1000  # sessions that expire at once; Redis does nothing else meanwhile
log = logging.getLogger(__name__)


class _Script(NamedTuple):
    text: str
    sha: str


def _script(text: str) -> _Script:
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class RedisStore:
    """Keeps sessions in Redis 7 or Valkey, where any number of servers may use them.

    Every access is one Lua script that can be sent again, so a lost answer is asked for once more.
    What Redis itself may lose follows from how it writes down what it holds; see docs/reference.
    """

    lease_seconds = LEASE_SECONDS

    def __init__(
        self, settings: RedisSettings, idle_seconds: float, on_change: Callable[[], None]
    ) -> None:
        self.has_failed = False
        self._settings = settings
        self._idle_seconds = idle_seconds
        self._on_change = on_change
        self._prefix = f"{{{settings.prefix}}}:"  # in braces: one hash slot of a cluster
        self._count: int | None = None
        seconds = settings.timeout_seconds / TRIES
        self._servers = servers(settings, self._prefix, seconds)
        self._nonces = itertools.count(secrets.randbits(62))  # other servers' differ, too
        self._pipeline = Pipeline(self._servers.connect, seconds)
        self._create = _script(scripts.CREATE)
        self._find = _script(scripts.FIND)
        self._renew = _script(scripts.RENEW)
        self._commit = _script(scripts.COMMIT)
        self._end = _script(scripts.END)
        self._expire = _script(scripts.EXPIRE)

    @classmethod
    async def open(
        cls, settings: RedisSettings, idle_seconds: float, on_change: Callable[[], None]
    ) -> Self:
        """Connect, and see that sessions would be kept.

        Args:
            settings: how to reach it.
            idle_seconds: sessions unused for longer expire; 0 keeps them for ever.
            on_change: called on the event loop when `has_failed` has changed.

        Raises:
            SettingsError: it cannot be reached, refuses the password, or evicts keys.
        """
        store = cls(settings, idle_seconds, on_change)
        try:
            await store._check()
        except BaseException:
            await store.close()
            raise
        return store

    async def _check(self) -> None:
        place = _place(self._settings)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                memory = await self._servers.memory()
        except (RedisError, OSError) as error:
            raise SettingsError(
                f"store: {place} cannot be used: {_told(error)}; see that it runs and that user "
                "and password are right"
            ) from error
        for policy in {each.get("maxmemory_policy", "") for each in memory}:
            if policy.startswith("allkeys"):
                raise SettingsError(
                    f"store: {place} has the maxmemory-policy {policy}, which would drop sessions "
                    "that are in use; set it to noeviction"
                )

    async def create(self, sessions: Sequence[NewSession], at_most: int = 0) -> int | None:
        """See SessionStore."""
        values: list[Any] = [sessions[0].owner, at_most]
        for each in sessions:
            values += (each.session_id, each.tag, each.contents.head, *each.contents.marks)
        there: int = await self._do(self._create, *values)
        return None if there < 0 else there

    async def read(self, session_id: str, owner: bytes, known: bytes = b"") -> Found | Gone:
        """See SessionStore."""
        found = await self._look(session_id, owner, known, b"")
        assert not isinstance(found, Busy)
        return found

    async def begin(self, session_id: str, owner: bytes, known: bytes = b"") -> Lease | Busy | Gone:
        """See SessionStore."""
        key = secrets.token_bytes(TAG_BYTES)
        found = await self._look(session_id, owner, known, key)
        return Lease(session_id, owner, key, found) if isinstance(found, Found) else found

    async def _look(
        self, session_id: str, owner: bytes, known: bytes, key: bytes
    ) -> Found | Busy | Gone:
        answer = await self._do(
            self._find, session_id, owner, known, self._idle_seconds, key, LEASE_SECONDS
        )
        what, *more = answer
        if what == b"damaged":  # which whoever reads it finds out
            return Found(b"", 0.0, Contents(b"", ()))
        first, *rest = more
        if what == b"gone":
            return Gone(first.decode())
        if what == b"busy":
            return Busy(float(first))
        idle, *contents = rest
        return Found(
            first,
            float(idle),
            Contents(contents[0], tuple(mark or b"" for mark in contents[1:]))
            if contents
            else None,
        )

    async def renew(self, lease: Lease) -> bool:
        """See SessionStore."""
        return bool(await self._do(self._renew, lease.session_id, lease.key, LEASE_SECONDS))

    async def release(self, lease: Lease) -> None:
        """See SessionStore."""
        await self._do(self._renew, lease.session_id, lease.key, 0)

    async def commit(self, lease: Lease, change: Change) -> bool:
        """See SessionStore."""
        return bool(
            await self._do(
                self._commit,
                lease.session_id,
                lease.key,
                lease.found.tag,
                change.tag,
                change.head,
                change.skip,
                change.stop,
                *change.add,
            )
        )

    async def end(self, lease: Lease) -> bool:
        """See SessionStore."""
        which = (lease.session_id, lease.owner, lease.key)
        return bool(await self._do(self._end, *which, Gone.ENDED.value, int(FATE_SECONDS)))

    async def expire(self) -> int:
        """See SessionStore."""
        fate = (Gone.EXPIRED.value, int(FATE_SECONDS))
        # Without a limit it only sees whether Redis is there and how many sessions it has.
        idle = self._idle_seconds or 2**40
        expired, looked_at = 0, PORTION
        while looked_at == PORTION:
            portion, looked_at, self._count = await self._do(self._expire, idle, *fate, PORTION)
            expired += portion
        return expired

    def count(self) -> int | None:
        """See SessionStore; it looks whenever sessions expire."""
        return self._count

    async def close(self) -> None:
        """See SessionStore."""
        await self._pipeline.close()
        await self._servers.close()

    async def _do(self, script: _Script, *values: Word) -> Any:
        try:
            answer = await self._try(script, *values)
        except (RedisError, OSError) as error:
            log.error("the store of sessions, %s: %s", _place(self._settings), _told(error))
            self._note(has_failed=True)
            raise _typed(error) from error
        self._note(has_failed=False)
        return answer

    async def _try(self, script: _Script, *values: Word) -> Any:
        """Return the answer; if an earlier try may have done it, a refusal tells nothing."""
        lost: Exception | None = None
        for _ in range(TRIES):
            try:
                answer = await self._run(script, *values)
            except (ReadOnlyError, MovedError) as error:  # another server has the sessions
                self._pipeline.drop()
                refused = error
            except ResponseError as error:
                raise lost or error from None
            except (RedisError, OSError) as error:
                lost = error
            else:
                if lost is not None and script is self._commit and not answer:
                    raise lost
                return answer
        raise lost or refused

    async def _run(self, script: _Script, *values: Word) -> Any:
        nonce = b"%d" % next(self._nonces)
        words = (1, self._prefix, nonce, *values)
        try:
            answer = await self._pipeline.call("EVALSHA", script.sha, *words)
        except NoScriptError:
            answer = await self._pipeline.call("EVAL", script.text, *words)
        if not isinstance(answer, list) or answer[:1] != [nonce]:
            self._pipeline.drop()
            raise InvalidResponse("an answer came that belongs to another question")
        return answer[1]

    def _note(self, *, has_failed: bool) -> None:
        had_failed, self.has_failed = self.has_failed, has_failed
        if had_failed != has_failed:
            self._on_change()


def _typed(error: BaseException) -> StoreError:
    if isinstance(error, OutOfMemoryError):
        what = "is full, and the session stays as it was"
    elif isinstance(error, ResponseError):
        what = "refuses to write, and the session stays as it was"
    else:
        what = (
            "does not answer, and a session that was about to advance may have done so or not; "
            "ask for its position with GetSession, or send expected_position"
        )
    typed = StoreError(f"the store of sessions {what}; try again later")
    typed.retry_after = RETRY_SECONDS
    return typed


def _place(settings: RedisSettings) -> str:
    hosts = ",".join(f"{host}:{port}" for host, port in settings.addresses)
    return f"{settings.kind} {settings.path or hosts}"


def _told(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__
