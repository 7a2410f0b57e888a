"""How a client asks: with patience, and with an account of what came."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.soak.claim import Claim, Failure, Heard, Outcome, name_of
from benchmarks.soak.plan import Asked, Kind
from unroll.client.aio import AsyncClient
from unroll.client.results import Score
from unroll.errors import ClosedError, OverloadedError, UnavailableError, UnrollError

T = TypeVar("T")
# A server that was killed, one that leaves, one that is full.
ALWAYS = (UnavailableError, ClosedError, OverloadedError)
PATIENCE = 120.0  # seconds; a server is back after a few, but on a machine with other work
PAUSE = 0.1
REST = 0.3  # after what an error ended, so that a server that is down is not all there is
TIMEOUT = 120.0  # of a call; nothing here takes so long


class Attempt:
    """The account of one thing that a client does.

    Args:
        kind: of what.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.is_done = False
        self._heard: list[Heard] = []
        self._scored: list[Claim] = []
        self._failures: list[Failure] = []
        self._problems: list[str] = []

    @property
    def has_failed(self) -> bool:
        """Whether an error came."""
        return bool(self._failures)

    def hear(self, before: str, asked: Asked) -> Heard:
        """Begin a text that goes on after `before`; what comes of it will be claimed."""
        heard = Heard(self.kind, before + asked.prompt, asked)
        self._heard.append(heard)
        return heard

    def score(self, before: str, asked: Asked, score: Score) -> None:
        """Claim a score of the prompt after `before`."""
        claim = Claim(
            kind=self.kind,
            before=before,
            asked=asked,
            text=asked.prompt,
            log_probs=np.array(score.log_probs, np.float32),
            is_scored=True,
        )
        self._scored.append(claim)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self._problems.append(f"{self.kind.value}: {problem}")

    def fail(self, error: UnrollError, *expected: type[UnrollError]) -> None:
        """Note an error."""
        failure = Failure(
            name=name_of(error),
            is_expected=isinstance(error, (*ALWAYS, *expected)),
            message=f"{self.kind.value}: {error}",
        )
        self._failures.append(failure)

    async def persist(self, ask: Callable[[], Awaitable[T]], *expected: type[UnrollError]) -> T:
        """Ask again and again until there is an answer.

        Raises:
            UnrollError: one that asking again does not mend, or patience is at its end.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                return await ask()
            except UnrollError as error:
                if not isinstance(error, (*ALWAYS, *expected)):
                    raise
                if time.monotonic() > ends:
                    self.expect(False, f"no answer within {PATIENCE:g} s: {error}")
                    raise
                self.fail(error, *expected)
            await asyncio.sleep(PAUSE)

    def outcome(self, takeovers: int) -> Outcome:
        """Close the account."""
        return Outcome(
            kind=self.kind,
            is_done=self.is_done,
            claims=(*self._scored, *(heard.claim() for heard in self._heard)),
            failures=tuple(self._failures),
            problems=tuple(self._problems),
            takeovers=takeovers,
        )


@dataclass(frozen=True, kw_only=True)
class Asker:
    """What a client asks with.

    Attributes:
        targets: addresses of the two servers.
        clients: connected to both, each with another server first.
        tell: takes outcomes to the soak.
        take_breaks: returns how many streams went on elsewhere since it was last called.
    """

    targets: tuple[str, ...]
    clients: tuple[AsyncClient, ...]
    tell: Callable[[Outcome], Awaitable[None]]
    take_breaks: Callable[[], int]

    @asynccontextmanager
    async def doing(self, kind: Kind, *expected: type[UnrollError]) -> AsyncIterator[Attempt]:
        """Do one thing and tell what came of it; errors of servers end the block and no more."""
        attempt = Attempt(kind)
        try:
            yield attempt
            attempt.is_done = True
        except UnrollError as error:
            attempt.fail(error, *expected)
        await self.tell(attempt.outcome(self.take_breaks()))
        if not attempt.is_done:
            await asyncio.sleep(REST)
