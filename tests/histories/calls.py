"""What clients write down, and what the plan of faults declares."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a client knows of its call."""

    DONE = "done"
    REFUSED = "refused"  # and so it changed nothing
    TAKEN_OVER = "taken over"  # refused, for another server had the session by then
    MAYBE = "maybe"  # no answer came


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One request to go on with a session.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        prompt: of it.
        length: symbols that were asked for.
        expected: position that the client gave, if it did.
        request: number of the request; one that is sent again has the same.
        outcome: of it.
        position: after the answer; 0 without one.
        text: of the answer.
        told: the error, if there was one.
    """

    session: str
    started: float
    ended: float
    prompt: str
    length: int
    expected: int | None = None
    request: int = 0
    outcome: Outcome
    position: int = 0
    text: str = ""
    told: str = ""

    @property
    def size(self) -> int:
        """By how much it advances a session."""
        return len(self.prompt) + self.length

    @property
    def begins(self) -> int:
        """Position of its prompt's first symbol, if it was answered."""
        return self.position - self.size


@dataclass(frozen=True, kw_only=True)
class Look:
    """A position that was read.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        position: that was told.
    """

    session: str
    started: float
    ended: float
    position: int


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A fault that is declared to lose what a store had acknowledged last.

    Attributes:
        since: on the clients' clock, in seconds; what was answered earlier is kept.
        killed: when the old store still lived; what was answered by then was written to it.
        gone: when the old store was dead; what began later was written to the new one.
    """

    since: float
    killed: float
    gone: float
