"""What a client tells: what it asked, what it got, what went wrong."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.soak.plan import Asked, Kind
from unroll.client.results import Completion, Generation, Piece
from unroll.errors import UnrollError
from unroll.terms import FinishReason


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


@dataclass(frozen=True, kw_only=True)
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
    is_done: bool
    claims: tuple[Claim, ...] = ()
    failures: tuple[Failure, ...] = ()
    problems: tuple[str, ...] = ()
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


def name_of(error: UnrollError) -> str:
    """Name an error; one that this project has no class for by its code, too."""
    code = getattr(error.__cause__, "code", None)
    shown = f" {code().name}" if callable(code) else ""
    return f"{type(error).__name__}{shown}"
