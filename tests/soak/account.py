"""What a client tells: what it asked, what it got, what went wrong; and its patience."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tests.soak.plan import Asked, Kind
from unroll.client.aio import AsyncClient
from unroll.client.results import Completion, Generation, Piece, Score
from unroll.errors import ClosedError, OverloadedError, UnavailableError, UnrollError
from unroll.terms import FinishReason

T = TypeVar("T")
# A server that was killed, one that leaves, one that is full.
ALWAYS = (UnavailableError, ClosedError, OverloadedError)
PATIENCE = 120.0  # seconds; a server is back after a few, but on a machine with other work
PAUSE = 0.1
REST = 0.3  # after what an error ended, so that a server that is down is not all there is
TIMEOUT = 120.0  # of a call; nothing here takes so long


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A text that reached a client, whole or in part.

    Attributes:
        kind: what the client was doing.
        before: all that the model had read by then, the prompt included.
        asked: what was asked for.
        text: that came.
        log_probs: of its symbols, in nats.
        finish: how it ended; None if it is only the beginning.
        position: where the server says that it ended; None if it said nothing.
        is_scored: whether the text was the client's, and only the log-probabilities came.
    """

    kind: Kind
    before: str
    asked: Asked
    text: str
    log_probs: NDArray[np.float32]
    finish: FinishReason | None = None
    position: int | None = None
    is_scored: bool = False


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error that a client met.

    Attributes:
        name: its class and, for one of no class of its own, gRPC's code.
        is_expected: whether it belongs to servers that are killed.
        message: its text.
    """

    name: str
    is_expected: bool
    message: str


@dataclass(kw_only=True)
class Outcome:
    """What came of one thing that a client did.

    Attributes:
        kind: of what.
        is_done: whether it came to its end.
        claims: the texts.
        failures: the errors, those that a repeat made good too.
        problems: what else was not as it should be.
        takeovers: streams that went on at another server with a part of their text received.
    """

    kind: Kind
    is_done: bool = False
    claims: list[Claim] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    takeovers: int = 0


class Heard:
    """Collects one text as it comes.

    Args:
        kind: what the client is doing.
        before: all that the model has read, the prompt included.
        asked: what was asked for.
    """

    def __init__(self, kind: Kind, before: str, asked: Asked) -> None:
        self.capsules: list[tuple[int, bytes]] = []  # symbols received, capsule
        self.text = ""
        self.completion: Completion | None = None
        self._kind, self._before, self._asked = kind, before, asked
        self._log_probs: list[float] = []

    @property
    def is_whole(self) -> bool:
        """Whether all of the text has come."""
        completion = self.completion
        return completion is not None and completion.finish_reason is not FinishReason.SHUTDOWN

    def take(self, part: Piece | Generation) -> None:
        """Add what came."""
        self.text += part.text
        self._log_probs += part.log_probs
        self.completion = part.completion
        if part.capsule:
            self.capsules.append((len(self.text), part.capsule))

    async def read(self, stream: AsyncGenerator[Piece], at_most: int | None = None) -> None:
        """Read a stream to its end, or so many pieces of it and cancel."""
        async with aclosing(stream):
            async for piece in stream:
                self.take(piece)
                if at_most is not None and (at_most := at_most - 1) <= 0:
                    return

    def claim(self) -> Claim:
        """Say what came."""
        completion = self.completion
        return Claim(
            kind=self._kind,
            before=self._before,
            asked=self._asked,
            text=self.text,
            log_probs=np.array(self._log_probs, np.float32),
            finish=None if completion is None else completion.finish_reason,
            position=None if completion is None else completion.position,
        )


class Attempt:
    """The account of one thing that a client does.

    Args:
        kind: of what.
    """

    def __init__(self, kind: Kind) -> None:
        self.outcome = Outcome(kind=kind)
        self._heard: list[Heard] = []

    @property
    def is_done(self) -> bool:
        """Whether it came to its end."""
        return self.outcome.is_done

    @property
    def has_failed(self) -> bool:
        """Whether an error came."""
        return bool(self.outcome.failures)

    def hear(self, before: str, asked: Asked) -> Heard:
        """Begin a text that goes on after `before`; what comes of it will be claimed."""
        heard = Heard(self.outcome.kind, before + asked.prompt, asked)
        self._heard.append(heard)
        return heard

    def score(self, before: str, asked: Asked, score: Score) -> None:
        """Claim a score of the prompt after `before`."""
        claim = Claim(
            kind=self.outcome.kind,
            before=before,
            asked=asked,
            text=asked.prompt,
            log_probs=np.array(score.log_probs, np.float32),
            is_scored=True,
        )
        self.outcome.claims.append(claim)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.outcome.problems.append(f"{self.outcome.kind.value}: {problem}")

    def fail(self, error: UnrollError, *expected: type[UnrollError]) -> None:
        """Note an error."""
        code = getattr(error.__cause__, "code", None)
        shown = f" {code().name}" if callable(code) else ""
        failure = Failure(
            name=f"{type(error).__name__}{shown}",
            is_expected=isinstance(error, (*ALWAYS, *expected)),
            message=f"{self.outcome.kind.value}: {error}",
        )
        self.outcome.failures.append(failure)

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

    def close(self, takeovers: int) -> Outcome:
        """Close the account."""
        self.outcome.claims += [heard.claim() for heard in self._heard]
        self.outcome.takeovers = takeovers
        return self.outcome


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
            attempt.outcome.is_done = True
        except UnrollError as error:
            attempt.fail(error, *expected)
        await self.tell(attempt.close(self.take_breaks()))
        if not attempt.is_done:
            await asyncio.sleep(REST)
