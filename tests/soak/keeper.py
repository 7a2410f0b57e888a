"""When a server lives, is ended and comes back."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, cycle
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTERM

from tests.soak.server import Page, Server

READY_SECONDS, DRAIN_SECONDS = 120.0, 60.0
LONGEST_REST = 1.0  # between two lives
LOOK_SECONDS = 0.5  # between two looks at the metrics
STEP_SECONDS = 0.05
PRANK_SECONDS = 0.7  # between two
PAUSE_SECONDS = 0.3


class End(Enum):
    """How a server ends."""

    KILLED = "SIGKILL"
    DRAINED = "SIGTERM"


class Prank(Enum):
    """What happens to a server while it lives."""

    RELOAD = "SIGHUP"
    SWAP = "bundle exchanged"
    PAUSE = "SIGSTOP and SIGCONT"
    ROB = "state dir taken away"


ENDS = (End.KILLED, End.KILLED, End.DRAINED)  # in turn, after the first


class Lot:
    """Durations of lives, half to one and a half of some seconds, and their ends.

    All are drawn from a name: the soak's seed and whose lives.
    """

    def __init__(self, life_seconds: float, first: End, *name: object) -> None:
        self._random = random.Random(":".join(map(str, name)))
        self._life_seconds = life_seconds
        self.ends = chain([first], cycle(ENDS))

    def life(self) -> float:
        return self._life_seconds * self._random.uniform(0.5, 1.5)

    def rest(self) -> float:
        """Draw how long it takes until the next life, in seconds."""
        return self._random.uniform(0.0, LONGEST_REST)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A server's metrics in one of its lives, from 1, and when that was."""

    life: int
    page: Page
    seconds: float = field(default_factory=time.monotonic)


class ServerKeeper(threading.Thread):
    """Keeps a server: starts it, looks at it, ends it when its time has come.

    Args:
        server: to keep.
        lot: its lives.
        may_end: whether a life may be ended now, by the number of those that were.
    """

    def __init__(self, server: Server, lot: Lot, may_end: Callable[[int], bool]) -> None:
        super().__init__(daemon=True, name=f"keeper of {server.address}")
        self.server = server
        self.is_living = False  # whether the server answers
        self.looks: list[Look] = []
        self.ends: list[End] = []  # of its lives, but for the last
        self.pranks: Counter[Prank] = Counter()
        self.problems: list[str] = []
        self._pranks = cycle(Prank)
        self._lot, self._may_end = lot, may_end
        self._is_last, self._is_given_up = threading.Event(), threading.Event()

    def stop(self) -> None:
        """End the server in good order, for good; one that is starting, once it lives."""
        self._is_last.set()

    def give_up(self) -> None:
        """End the server and this thread at once."""
        self._is_last.set()
        self._is_given_up.set()
        self.join()
        self.server.kill()

    def run(self) -> None:
        """Live life after life until stopped."""
        while not self._is_given_up.is_set():
            self.server.start()
            how = self._live()
            self.is_living = False
            if how:
                self.problems.append(f"the server at {self.server.address} {how}")
                self.server.kill()
            if self._is_last.is_set():
                return
            self._is_last.wait(self._lot.rest())

    def _live(self) -> str:
        """Live once; return what was wrong."""
        for _ in self._looking(READY_SECONDS):
            if self._look():
                break
            if (code := self.server.exit_code()) is not None:
                return f"ended by itself with {code}"
        else:
            return f"was not ready within {READY_SECONDS:g} s"
        now = time.monotonic()
        self.is_living, due, look, prank = True, now + self._lot.life(), now, now + PRANK_SECONDS
        while not self._is_last.is_set():
            now = time.monotonic()
            if (code := self.server.exit_code()) is not None:
                return f"ended by itself with {code}"
            if now >= look:
                self._look()
                look = now + LOOK_SECONDS
            if now >= prank:
                self._play(next(self._pranks))
                prank = time.monotonic() + PRANK_SECONDS
            if now >= due and self._may_end(len(self.ends)):
                self.ends.append(next(self._lot.ends))
                if self.ends[-1] is End.DRAINED:
                    break
                self.server.kill()
                return ""
            self._is_last.wait(STEP_SECONDS)
        return self._drain()

    def _play(self, prank: Prank) -> None:
        self.pranks[prank] += 1
        match prank:
            case Prank.RELOAD:
                self.server.send(SIGHUP)
            case Prank.SWAP:
                self.server.swap()
                self.server.send(SIGHUP)
            case Prank.PAUSE:
                self.server.send(SIGSTOP)
                time.sleep(PAUSE_SECONDS)
                self.server.send(SIGCONT)
            case Prank.ROB:
                with self.server.robbed():
                    time.sleep(PAUSE_SECONDS)

    def _drain(self) -> str:
        self.server.send(SIGTERM)
        for _ in self._looking(DRAIN_SECONDS):
            code = self.server.exit_code()
            if code is not None:
                return f"ended with {code} after SIGTERM" if code else ""
            self.server.send(SIGHUP)
        return f"did not end within {DRAIN_SECONDS:g} s of SIGTERM"

    def _look(self) -> bool:
        page = self.server.page()
        if page is not None:
            self.looks.append(Look(life=self.server.starts, page=page))
        return page is not None

    def _looking(self, seconds: float) -> Iterator[None]:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self._is_given_up.wait(STEP_SECONDS):
            yield
