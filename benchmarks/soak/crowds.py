"""Processes of clients, which are killed and replaced."""

import multiprocessing
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from benchmarks.soak.claim import Outcome
from benchmarks.soak.clients import Crowd, be_crowd
from benchmarks.soak.keeper import Lot

# gRPC's threads do not survive a fork.
_SPAWN = multiprocessing.get_context("spawn")


class CrowdKeeper:
    """Keeps one process of clients.

    Args:
        crowd: its first clients.
        lot: their lives.
        last_kill: second of the soak after which they are left alone, once they have been killed.
    """

    def __init__(self, crowd: Crowd, lot: Lot, last_kill: float) -> None:
        self.kills = 0
        self.problems: list[str] = []
        self._crowd, self._lot, self._last_kill = crowd, lot, last_kill
        self._is_dismissed = False
        self._pipe: Connection | None = None
        self._begin(0.0)

    @property
    def pipe(self) -> Connection | None:
        """Where the clients tell; None once they have ended."""
        return self._pipe

    def step(self, now: float) -> None:
        """Kill what is due at a second of the soak, and replace it."""
        if self._pipe is None or self._is_dismissed:
            return
        if self._due <= now and (now < self._last_kill or not self.kills):
            self.kill()
            self.kills += 1
            *same, generation = self._crowd.name
            self._crowd = replace(self._crowd, name=(*same, generation + 1))
            self._begin(now)

    def hear(self) -> Outcome | None:
        """Take what they tell; None if they have ended."""
        assert self._pipe is not None
        try:
            outcome: Outcome = self._pipe.recv()
        except (EOFError, OSError):  # in the middle of a message, if it was killed there
            self._pipe = None
            self._process.join()
            if self._process.exitcode:
                self.problems.append(
                    f"clients ended by themselves with {self._process.exitcode}; their traceback "
                    "is above"
                )
            return None
        return outcome

    def dismiss(self) -> None:
        """Ask them to end; they are not killed any more."""
        self._is_dismissed = True
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # they have ended, which `hear` will tell
                self._pipe.send(None)

    def kill(self) -> None:
        """End them with SIGKILL; does no harm if they have ended."""
        self._process.kill()
        self._process.join()
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _begin(self, now: float) -> None:
        here, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=be_crowd, args=(self._crowd, there), daemon=True)
        self._process.start()
        there.close()
        self._pipe = here
        self._due = now + self._lot.life()


def heard(crowds: list[CrowdKeeper], seconds: float) -> Iterator[Outcome]:
    """Yield what crowds tell, one thing each, after so many seconds at most."""
    by_pipe = {id(crowd.pipe): crowd for crowd in crowds if crowd.pipe is not None}
    for pipe in wait([crowd.pipe for crowd in crowds if crowd.pipe is not None], seconds):
        outcome = by_pipe[id(pipe)].hear()
        if outcome is not None:
            yield outcome
