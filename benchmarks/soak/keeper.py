"""When a server lives, is killed and comes back."""

import random
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain, cycle

from benchmarks.soak.server import Page, Server

READY_SECONDS = 120.0
DRAIN_SECONDS = 60.0
LONGEST_REST = 1.0
LOOK_SECONDS = 0.5  # between two looks at the metrics


class End(Enum):
    """How a server ends."""

    KILLED = "SIGKILL"
    DRAINED = "SIGTERM"


ENDS = (End.KILLED, End.KILLED, End.DRAINED)  # in turn, after the first


class _State(Enum):
    STARTING = auto()
    LIVING = auto()
    DRAINING = auto()
    DOWN = auto()
    STOPPED = auto()


class Lot:
    """Durations of lives, drawn from the soak's seed, and their ends.

    Args:
        life_seconds: half to one and a half of this.
        first: how the first life ends.
        name: the soak's seed and whose lives.
    """

    def __init__(self, life_seconds: float, first: End, *name: object) -> None:
        self._random = random.Random(":".join(map(str, name)))
        self._life_seconds = life_seconds
        self._ends = chain([first], cycle(ENDS))

    def life(self) -> float:
        """Draw how long a life lasts, in seconds."""
        return self._life_seconds * self._random.uniform(0.5, 1.5)

    def rest(self) -> float:
        """Draw how long it takes until the next life, in seconds."""
        return self._random.uniform(0.0, LONGEST_REST)

    def end(self) -> End:
        """Tell how the next life ends."""
        return next(self._ends)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A server's metrics at a moment.

    Attributes:
        seconds: since the soak began.
        life: which of the server's, from 1.
        page: what it told.
    """

    seconds: float
    life: int
    page: Page


class Keeper:
    """Keeps a server: starts it, looks at it, ends it when its time has come.

    Args:
        server: to keep.
        lot: its lives.
        last_end: second of the soak after which it is left alone, once it has been ended at all.

    Attributes:
        is_spared: whether it is left alone from now on.
    """

    def __init__(self, server: Server, lot: Lot, last_end: float) -> None:
        self.server = server
        self.ends: list[tuple[float, End]] = []
        self.looks: list[Look] = []
        self.problems: list[str] = []
        self.last_end = last_end
        self.is_spared = False
        self._lot = lot
        self._state = _State.DOWN
        self._due = self._look = 0.0
        self._is_last = False

    @property
    def is_living(self) -> bool:
        """Whether the server answers."""
        return self._state is _State.LIVING

    @property
    def is_stopped(self) -> bool:
        """Whether the server has ended and will not come back."""
        return self._state is _State.STOPPED

    def stop(self, now: float) -> None:
        """End the server in good order, for good; one that is starting, once it lives."""
        self._is_last = True
        if self._state is _State.LIVING:
            self._drain(now)

    def step(self, now: float) -> None:
        """Do what is due at a second of the soak."""
        if self._state is _State.STOPPED:
            return
        if self._state is _State.DOWN:
            if self._is_last:
                self._state = _State.STOPPED
            elif now >= self._due:
                self.server.start()
                self._state, self._due = _State.STARTING, now + READY_SECONDS
            return
        code = self.server.exit_code()
        if self._state is _State.DRAINING:
            self._await_end(now, code)
        elif code is not None:
            self._fall(now, f"ended by itself with {code}")
        elif now >= self._look:
            self._look_at(now)
        is_due = self._due <= now and (now < self.last_end or not self.ends)
        if self._state is _State.LIVING and self._is_last:
            self._drain(now)
        elif self._state is _State.LIVING and is_due and not self.is_spared:
            self._end(now)

    def _look_at(self, now: float) -> None:
        self._look = now + LOOK_SECONDS
        page = self.server.page()
        if page is not None:
            self.looks.append(Look(seconds=now, life=self.server.starts, page=page))
            if self._state is _State.STARTING:
                self._state, self._due = _State.LIVING, now + self._lot.life()
        elif self._state is _State.STARTING and now >= self._due:
            self._fall(now, f"was not ready within {READY_SECONDS:g} s")

    def _end(self, now: float) -> None:
        end = self._lot.end()
        self.ends.append((now, end))
        if end is End.DRAINED:
            self._drain(now)
        else:
            self.server.kill()
            self._state, self._due = _State.DOWN, now + self._lot.rest()

    def _drain(self, now: float) -> None:
        self.server.drain()
        self._state, self._due = _State.DRAINING, now + DRAIN_SECONDS

    def _await_end(self, now: float, code: int | None) -> None:
        if code == 0:
            self._state, self._due = _State.DOWN, now + self._lot.rest()
        elif code is not None:
            self._fall(now, f"ended with {code} after SIGTERM")
        elif now >= self._due:
            self._fall(now, f"did not end within {DRAIN_SECONDS:g} s of SIGTERM")

    def _fall(self, now: float, how: str) -> None:
        self.problems.append(f"the server at {self.server.address} {how} at {now:.1f} s")
        self.server.kill()
        self._state, self._due = _State.DOWN, now + self._lot.rest()
