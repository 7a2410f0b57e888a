"""What befalls the servers and their store."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.histories.replicas import LEASE_SECONDS, Replicas
from tests.histories.stores import Store

LONG_SECONDS = 2.4 * LEASE_SECONDS  # others can take the session meanwhile
CLOCKS = (-3600.0, 3600.0)  # seconds


class Faults:
    """Makes faults, one after the other, each mended before the next.

    Args:
        servers: that it harms.
        store: likewise.
        seed: of the plan.
        kinds: those that it makes; all by default.

    Attributes:
        made: how many of each kind.
    """

    def __init__(self, servers: Replicas, store: Store, seed: int, kinds: Sequence[str]) -> None:
        self.made: Counter[str] = Counter()
        self._servers = servers
        self._store = store
        self._chance = random.Random(seed)
        self._kinds: dict[str, Callable[[int], None]] = {
            "server stopped": self._stop,
            "server killed": self._kill,
            "server drained": self._drain,
            "clock off by an hour": self._set_clock,
            "partition": self._part,
            "answers lost": self._lose_answers,
            "connections cut": lambda _: store.cut_connections(),
            "store killed": lambda _: store.restart(),
            "store full": self._fill,
            "replica promoted": self._promote,
            "log cut": self._cut,
        }
        self._of = kinds or [*self._kinds]
        self._order: list[str] = []

    def make(self) -> None:
        """Make the next one: all kinds come equally often, in ever new order."""
        if not self._order:
            self._order = self._chance.sample(self._of, len(self._of))
        kind = self._order.pop()
        self.made[kind] += 1
        self._kinds[kind](self._chance.randrange(len(self._servers.links)))

    def _stop(self, index: int) -> None:
        self._servers.pause(index)
        time.sleep(LONG_SECONDS)
        self._servers.go_on(index)

    def _kill(self, index: int) -> None:
        self._servers.kill(index)
        self._servers.start(index)

    def _drain(self, index: int) -> None:
        self._servers.drain(index)
        self._servers.start(index)

    def _set_clock(self, index: int) -> None:
        self._servers.kill(index)
        self._servers.start(index, self._chance.choice(CLOCKS))

    def _part(self, index: int) -> None:
        self._servers.links[index].hold()
        time.sleep(LONG_SECONDS)
        self._servers.links[index].carry()

    def _lose_answers(self, index: int) -> None:
        """Let a server not hear what the store has done, while others go on; it asks again."""
        self._servers.links[index].hold(answers_only=True)
        time.sleep(self._chance.uniform(0.05, LEASE_SECONDS))
        self._servers.links[index].cut()

    def _fill(self, _: int) -> None:
        with self._store.full():
            time.sleep(LONG_SECONDS)

    def _promote(self, index: int) -> None:
        self._lose(index, self._store.promote)

    def _cut(self, index: int) -> None:
        self._lose(index, lambda seconds: self._store.cut(seconds, self._chance))

    def _lose(self, index: int, lose: Callable[[float], None]) -> None:
        """Let a server stand still that holds leases which the loss brings back."""
        is_stopped = self._chance.random() < 0.5
        if is_stopped:
            self._servers.pause(index)
        lose(self._chance.uniform(0.2, LONG_SECONDS))
        if is_stopped:
            self._servers.go_on(index)
