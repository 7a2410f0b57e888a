"""What a client tells: what it asked, what it got, what went wrong; and its patience."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from tests.soak.plan import Asked, Kind, Step
from unroll.client.aio import AsyncClient
from unroll.errors import ClosedError, OverloadedError, StoreError, UnavailableError, UnrollError
from unroll.results import Generation, Piece, Score
from unroll.terms import FinishReason

T = TypeVar("T")
# A server that was killed, one that leaves, one that is full, one whose state dir is away.
ALWAYS = (UnavailableError, ClosedError, OverloadedError, StoreError)
PATIENCE = 120.0  # seconds; a server is back after a few, but on a machine with other work
PAUSE = 0.1
REST = 0.3  # after what an error ended, so that a server that is down is not all there is
TIMEOUT = 120.0  # of a call; nothing here takes so long


@dataclass(kw_only=True)
class Claim:
    """A text that reached a client, whole or in part."""

    kind: Kind
    before: str  # all that the model had read by then, the prompt included
    asked: Asked
    text: str = ""
    log_probs: list[float] = field(default_factory=list)  # of its symbols, in nats
    finish: FinishReason | None = None  # None if it is only the beginning
    position: int | None = None  # where the server says that it ended
    fingerprint: str = ""  # of the model, if it is the one whose bundle is exchanged
    is_scored: bool = False  # the text was the client's, and only the log-probabilities came
    capsules: list[tuple[int, bytes]] = field(default_factory=list)  # and symbols by then

    @property
    def is_whole(self) -> bool:
        return self.finish not in {None, FinishReason.SHUTDOWN}

    def take(self, part: Piece | Generation) -> None:
        """Add what came."""
        self.text += part.text
        self.log_probs += part.log_probs
        ended = part.completion
        self.finish = None if ended is None else ended.finish_reason
        self.position = None if ended is None else ended.position
        if part.capsule:
            self.capsules.append((len(self.text), part.capsule))

    async def read(self, stream: AsyncGenerator[Piece], at_most: int | None = None) -> None:
        """Read a stream to its end, or so many pieces of it and cancel."""
        async with aclosing(stream):
            async for piece in stream:
                self.take(piece)
                if at_most is not None and (at_most := at_most - 1) <= 0:
                    return


class Failure(NamedTuple):
    """An error that a client met: its class and code, its text, and whether a kill explains it."""

    name: str
    message: str
    is_expected: bool


@dataclass(kw_only=True)
class Attempt:
    """The account of one thing that a client does."""

    kind: Kind
    is_done: bool = False  # whether it came to its end
    claims: list[Claim] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)  # those that a repeat made good too
    problems: list[str] = field(default_factory=list)
    takeovers: int = 0  # streams that went on at another server in mid-text

    def hear(self, before: str, asked: Asked) -> Claim:
        """Begin a text that goes on after `before`."""
        self.claims.append(Claim(kind=self.kind, before=before + asked.prompt, asked=asked))
        return self.claims[-1]

    def score(self, before: str, asked: Asked, score: Score) -> None:
        """Claim a score of the prompt after `before`."""
        claim = Claim(kind=self.kind, before=before, asked=asked, text=asked.prompt, is_scored=True)
        claim.log_probs += score.log_probs
        self.claims.append(claim)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(f"{self.kind.value}: {problem}")

    def fail(self, error: UnrollError, *expected: type[UnrollError]) -> None:
        """Note an error."""
        code = getattr(error.__cause__, "code", None)
        name = type(error).__name__ + (f" {code().name}" if callable(code) else "")
        is_expected = isinstance(error, (*ALWAYS, *expected))
        self.failures.append(Failure(name, f"{self.kind.value}: {error}", is_expected))

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


@dataclass(frozen=True, kw_only=True)
class Asker:
    """What a client asks with."""

    targets: tuple[str, ...]  # addresses of the two servers
    clients: tuple[AsyncClient, ...]  # connected to both, each with another server first
    tell: Callable[[Attempt], Awaitable[None]]  # takes accounts to the soak
    take_breaks: Callable[[], int]  # streams that went on elsewhere since the last call

    @asynccontextmanager
    async def doing(self, kind: Kind, *expected: type[UnrollError]) -> AsyncIterator[Attempt]:
        """Do one thing and tell what came of it; errors of servers end the block and no more."""
        attempt = Attempt(kind=kind)
        try:
            yield attempt
            attempt.is_done = True
        except UnrollError as error:
            attempt.fail(error, *expected)
        attempt.takeovers = self.take_breaks()
        for claim in attempt.claims:
            claim.capsules.clear()  # the soak has no use for them
        await self.tell(attempt)
        if not attempt.is_done:
            await asyncio.sleep(REST)


Act = Callable[[Asker, Step, Attempt], Awaitable[None]]
OPERATIONS: dict[Kind, Callable[[Asker, Step], Awaitable[None]]] = {}
"""How to do each kind of the deck; `texts`, `sessions` and `rude` fill it."""


def operation(kind: Kind, *expected: type[UnrollError]) -> Callable[[Act], Act]:
    """Register what a client does, and do it with an account of it."""

    def register(act: Act) -> Act:
        async def operate(asker: Asker, step: Step) -> None:
            async with asker.doing(kind, *expected) as attempt:
                await act(asker, step, attempt)

        OPERATIONS[kind] = operate
        return act

    return register
