"""What clients write down, and what the plan of faults declares."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a client knows of its call."""

    DONE = "done"
    REFUSED = "refused"  # and so it changed nothing
    TAKEN_OVER = "taken over"  # refused, for another server had the session by then
    MAYBE = "maybe"  # no answer came


class Kind(Enum):
    """What a call asks for."""

    GO_ON = "texts"
    REWIND = "rewinds"
    FORK = "forks"
    ADOPT = "sessions from capsules"
    END = "ends"


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One request to change a session, or to start others from it.

    Attributes:
        session: its id.
        kind: of the request.
        started: on the clients' clock, in seconds.
        ended: likewise.
        prompt: of a text.
        length: symbols that were asked for.
        expected: position that the client gave, if it did.
        target: position to which the session shall be rewound.
        request: number of the request; one that is sent again has the same.
        outcome: of it.
        position: after the answer; 0 without one.
        marks: after the answer, as far as it tells them.
        text: of the answer.
        told: the error, if there was one.
    """

    session: str
    kind: Kind = Kind.GO_ON
    started: float
    ended: float
    prompt: str = ""
    length: int = 0
    expected: int | None = None
    target: int = 0
    request: int = 0
    outcome: Outcome
    position: int = 0
    marks: tuple[int, ...] = ()
    text: str = ""
    told: str = ""

    @property
    def size(self) -> int:
        """By how much a text advances a session."""
        return len(self.prompt) + self.length

    @property
    def begins(self) -> int:
        """Position of the first symbol of a text's prompt, if it was answered."""
        return self.position - self.size


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was read of a session: where it stands, or how likely a text is there.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        position: that was told; None for the score of a text.
        marks: that were told; empty if none were.
        text: that was scored.
        scores: log-probabilities of its symbols, in nats.
    """

    session: str
    started: float
    ended: float
    position: int | None = None
    marks: tuple[int, ...] = ()
    text: str = ""
    scores: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.position is None:
            return f"{self.text!r} was scored"
        marks = f" with marks {self.marks}" if self.marks else ""
        return f"was read at {self.position}{marks}"


@dataclass(frozen=True, kw_only=True)
class Absence:
    """An answer that a session is not there.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        is_ended: whether it was told that somebody ended it; else it is unknown.
        told: the error.
    """

    session: str
    started: float
    ended: float
    is_ended: bool
    told: str = ""


@dataclass(frozen=True, kw_only=True)
class Birth:
    """A session that was started.

    Attributes:
        session: its id.
        started: on the clients' clock, in seconds.
        ended: likewise.
        position: at which it began.
        seed: of it.
        parent: session that it began from; empty for none.
        after: the answer whose capsule it began from; None for a fork.
    """

    session: str
    started: float
    ended: float
    position: int = 0
    seed: int
    parent: str = ""
    after: Call | None = None


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
