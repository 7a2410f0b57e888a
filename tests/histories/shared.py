"""What the clients of a history share, and how they note what they are told."""

import time
from dataclasses import dataclass, field
from typing import Any

from tests.histories.calls import Absence, Birth, Call, Look, Outcome
from tests.histories.judging import Seen
from unroll.errors import (
    InputError,
    PositionError,
    SessionBusyError,
    SessionEndedError,
    SessionUnknownError,
    StoreError,
    UnavailableError,
    UnrollError,
)

NEVER_CONNECTED = "failed to connect"
STAYS = "the session stays as it was"  # and so it changed nothing
TAKEN = "was taken over"
GONE = (SessionUnknownError, SessionEndedError)
REFUSED = (PositionError, SessionBusyError, InputError, *GONE)


@dataclass
class Shared:
    """What all clients know.

    Attributes:
        seen: by them.
        running: calls that have no answer yet, by client.
        living: sessions that they use; the first ones are never ended.
        kept: how many these are.
        marks: that were told of each last.
    """

    seen: Seen = field(default_factory=Seen)
    running: dict[int, Call] = field(default_factory=dict)
    living: list[str] = field(default_factory=list)
    kept: int = 0
    marks: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def start(self, birth: Birth) -> None:
        """Let a session be used."""
        self.seen.births.append(birth)
        self.living.append(birth.session)

    def drop(self, session: str) -> None:
        """Let nobody use a session any more."""
        self.living = [each for each in self.living if each != session]

    def note(self, session: str, started: float, **told: Any) -> None:
        """Note what is told of a session, as Look has it."""
        look = Look(session=session, started=started, ended=time.monotonic(), **told)
        self.seen.looks.append(look)

    def note_error(self, session: str, started: float, error: UnrollError) -> None:
        """Note what an error tells of a session."""
        if isinstance(error, PositionError):
            self.note(session, started, position=error.actual)
        elif isinstance(error, GONE):
            self.drop(session)
            absence = Absence(
                session=session, started=started, ended=time.monotonic(),
                is_ended=isinstance(error, SessionEndedError), told=str(error),
            )  # fmt: skip
            self.seen.absences.append(absence)


def outcome_of(error: UnrollError) -> Outcome:
    """Tell what an error promises."""
    told = str(error)
    if isinstance(error, SessionBusyError) and TAKEN in told:
        return Outcome.TAKEN_OVER
    is_refused = (
        isinstance(error, REFUSED)
        or (isinstance(error, UnavailableError) and NEVER_CONNECTED in told)
        or (isinstance(error, StoreError) and STAYS in told)
    )
    return Outcome.REFUSED if is_refused else Outcome.MAYBE
