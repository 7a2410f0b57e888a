"""Sequences: the sessions of Triton's clients, under names that the callers choose.

They are apart from `unroll.v1`'s sessions: only in memory, soon forgotten, and of no use under
another id. A sequence belongs to its caller, by identity or else by address.
"""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

from serving.access.call import Call
from serving.engine.models import Models
from serving.sessions.capsule import CapsuleKeys, owner_tag
from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import ID_BYTES, Sessions
from serving.texts.begin import begin
from serving.texts.limits import Limits
from serving.texts.origins import Origins, Place
from serving.texts.text import Texts
from serving.triton.step import Step
from unroll.errors import (
    SessionEndedError,
    SessionError,
    SessionEvictedError,
    SessionExpiredError,
    SessionLimitError,
    SessionUnknownError,
    shown,
)
from unroll.options import GenerateOptions, SessionOptions

IDLE_SECONDS = 60.0  # after which a sequence expires
_GONE = {
    SessionUnknownError: "has not started",
    SessionEndedError: "has ended",
    SessionExpiredError: f"was idle for more than {IDLE_SECONDS:g} s and has expired",
    SessionEvictedError: "was evicted to make room for newer ones",
}


class Sequences:
    """Keeps sequences.

    Args:
        models: what is served.
        keys: of this server's capsules.
        limits: what a request may ask for.
        most: sequences kept at once.
        per_caller: that a caller with a name may have; 0 for any number.

    Attributes:
        texts: opens what goes on from them.
    """

    def __init__(
        self, models: Models, keys: CapsuleKeys, limits: Limits, *, most: int, per_caller: int
    ) -> None:
        self._sessions = Sessions(
            MemoryStore(most, IDLE_SECONDS),
            models.layouts,
            marks=1,
            idle_seconds=IDLE_SECONDS,
            per_caller=per_caller,
        )
        self._origins = Origins(models, self._sessions, keys)
        self.texts = Texts(self._origins, limits)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def expire(self) -> None:
        """Forget the sequences that were idle for too long."""
        await self._sessions.expire()

    @asynccontextmanager
    async def take(
        self, call: Call, model: str, step: Step, options: GenerateOptions
    ) -> AsyncIterator[Place]:
        """Wait for the turn in a sequence; start it before the block and end it after, if asked to.

        Args:
            call: that asks.
            model: name of the sequence's model.
            step: which sequence.
            options: what it starts with.

        Raises:
            SessionError: it has not started or is gone, or the caller has too many.
        """
        session_id, owner = _id_of(call.account, model, step), owner_tag(call.identity)
        turn = self._turns.setdefault(session_id, asyncio.Lock())
        async with turn:
            try:
                if step.starts:
                    await self._start(session_id, owner, call, options)
                yield Place(model=model, session=session_id)
            except BaseException as error:
                if step.starts:
                    await self._end(session_id, owner)
                if (told := _told(error, step)) is None:
                    raise
                raise told from error
            if step.ends:
                await self._end(session_id, owner)

    async def _start(
        self, session_id: str, owner: bytes, call: Call, options: GenerateOptions
    ) -> None:
        """Start a sequence; one that goes by the same id ends."""
        await self._end(session_id, owner)
        origin = await self._origins.look_at(Place(model=options.model), call.identity)
        start = SessionOptions(
            seed=options.seed,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            logit_bias=options.logit_bias,
        )
        await self._sessions.start(
            owner, origin.model.fingerprint, begin(start, origin), session_id=session_id
        )

    async def _end(self, session_id: str, owner: bytes) -> None:
        with suppress(SessionError):  # it is gone already
            await self._sessions.end(session_id, owner)


def _id_of(account: str, model: str, step: Step) -> str:
    """Return the id of a sequence's session, which nobody else's sequence and no session has."""
    key = "\0".join([account, model, type(step.id).__name__, str(step.id)])
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    return urlsafe_b64encode(digest[:ID_BYTES]).rstrip(b"=").decode()


def _told(error: BaseException, step: Step) -> SessionError | None:
    """Return a session's error in the words of sequences; None for any other."""
    if isinstance(error, SessionLimitError):
        return SessionLimitError(
            "this caller has as many sequences as it may have; end some with sequence_end"
        )
    if not isinstance(error, SessionError) or type(error) not in _GONE:
        return None
    what = _GONE[type(error)]
    return type(error)(f"sequence {shown(str(step.id))} {what}; begin it with sequence_start")
