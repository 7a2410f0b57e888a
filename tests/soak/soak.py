"""A soak from its start to its end."""

import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from queue import Empty, Queue

from tests.ports import free_ports
from tests.soak.account import Attempt, Claim
from tests.soak.clients import Crowd, CrowdKeeper
from tests.soak.keeper import STEP_SECONDS, End, Lot, ServerKeeper
from tests.soak.report import Report, faults, gaps
from tests.soak.server import HELD, Server
from tests.soak.settings import SoakSettings
from unroll.bundle.folder import Bundle
from unroll.client.load.processes import shares

NEWS_SECONDS = 10.0
START_SECONDS = 120.0
LONGER_SECONDS = 600.0  # at most, if something has not been tried by then
END_SECONDS = 150.0  # for clients to end; what they told is compared meanwhile
FREE_SECONDS = 60.0  # for servers to notice that everybody has gone
# Parts of the time after which nobody is killed: the first server, the second, clients.
LAST_ENDS, LAST_KILL = (0.8, 0.5), 0.9
# In the log of a server whose state dir is away, or whose bundle is exchanged while it is read.
EXPLAINED = re.compile(
    "sessions cannot be (read|written)|expired sessions stay|the loaded bundle stays"
)
TOLD_AT_MOST = 64  # outcomes that wait to be compared


class Soak:
    """Two servers, their clients, and who ends them.

    Args:
        settings: of the soak.
        bundle: that the servers serve.
        others: two more, which take turns as a second model.
        folder: for their sessions and logs.
        check: compares a text with the one computed alone; returns the difference.
    """

    def __init__(
        self,
        settings: SoakSettings,
        bundle: Bundle,
        others: Sequence[Bundle],
        folder: Path,
        check: Callable[[Claim], str],
    ) -> None:
        self._settings, self._check = settings, check
        self._symbols = bundle.vocabulary.symbols
        self._seconds = settings.minutes * 60
        self._report = Report()
        self._began = time.monotonic()
        self._news = NEWS_SECONDS
        self._last_ends = [part * self._seconds for part in LAST_ENDS]
        self._told: Queue[Attempt] = Queue(TOLD_AT_MOST)
        self._crowds: list[CrowdKeeper] = []
        self._keepers = list(self._keep(bundle, others, folder))

    def run(self) -> Report:
        """Run to the end and return what was seen."""
        with self._cleaning_up():
            for keeper in self._keepers:
                keeper.start()
            self._until(self._all_live, START_SECONDS)
            self._begin()
            self._until(lambda: False, self._seconds)
            self._go_on()
            self._dismiss()
            self._look_for_leaks()
            self._stop_servers()
        return self._close()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    def _all_live(self) -> bool:
        return all(keeper.is_living for keeper in self._keepers)

    def _everybody(self) -> list[CrowdKeeper | ServerKeeper]:
        return [*self._crowds, *self._keepers]

    def _keep(
        self, bundle: Bundle, others: Sequence[Bundle], folder: Path
    ) -> Iterator[ServerKeeper]:
        key, folders = secrets.token_hex(32), [each.folder for each in others]
        ports = iter(free_ports(2 * len(LAST_ENDS)))
        # Each starts with another end, so that each way comes, however short the time.
        for index, first in zip(range(len(LAST_ENDS)), End, strict=True):
            own = folder / f"server-{index}"
            own.mkdir()
            server = Server(bundle.folder, folders, own, key, (next(ports), next(ports)))
            lot = Lot(self._settings.life_seconds, first, self._settings.seed, "server", index)
            yield ServerKeeper(server, lot, partial(self._may_end, index))

    def _may_end(self, index: int, ended: int) -> bool:
        """Whether a server may be ended now; one that never was may be until all are spared."""
        last = self._last_ends[index]
        return self._now < last or (not ended and last > 0)

    def _begin(self) -> None:
        """Start the clients, and the clock."""
        settings, last_kill = self._settings, LAST_KILL * self._seconds
        first, second = (keeper.server.address for keeper in self._keepers)
        self._began = time.monotonic()
        for index, numbers in enumerate(shares(settings.clients, settings.processes)):
            crowd = Crowd(
                targets=(first, second),
                symbols=self._symbols,
                name=(settings.seed, index, 0),
                clients=len(numbers),
            )
            lot = Lot(2 * settings.life_seconds, End.KILLED, settings.seed, "clients", index)
            keeper = CrowdKeeper(
                crowd, lot, lambda kills: self._now < last_kill or not kills, self._told
            )
            self._crowds.append(keeper)
            keeper.start()

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Hear the clients until something holds; False if it never did."""
        ends = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends:
                return False
            try:
                self._hear(self._told.get(timeout=STEP_SECONDS))
            except Empty:
                continue
        return True

    def _hear(self, attempt: Attempt) -> None:
        report = self._report
        report.add(attempt)
        for claim in attempt.claims:
            report.compare(claim, self._check(claim))
        if self._now >= self._news:
            self._news = self._now + NEWS_SECONDS
            compared = f"{report.texts:,} texts of {report.symbols:,} symbols compared"
            print(f"{self._now:.0f} s: {compared}, {report.mismatches} mismatches", flush=True)

    def _go_on(self) -> None:
        """Give what has not been tried some more time; the first server is killed on."""
        self._last_ends[0] = inf
        self._until(
            lambda: not gaps(self._take_stock()) or bool(faults(self._report)), LONGER_SECONDS
        )

    def _dismiss(self) -> None:
        self._last_ends = [0.0 for _ in LAST_ENDS]
        for crowd in self._crowds:
            crowd.dismiss()
        self._wait_for(
            lambda: not any(crowd.is_alive() for crowd in self._crowds) and self._told.empty(),
            f"clients did not end within {END_SECONDS:g} s",
        )

    def _look_for_leaks(self) -> None:
        def is_free() -> bool:
            pages = [page for keeper in self._keepers if (page := keeper.server.page())]
            leaks = {name: sum(page.held[name] for page in pages) for name in HELD}
            self._report.leaks = leaks
            return self._all_live() and len(pages) == len(self._keepers) and not any(leaks.values())

        self._until(is_free, FREE_SECONDS)
        if not self._all_live():
            self._report.problems.append("a server was not there at the end")

    def _stop_servers(self) -> None:
        for keeper in self._keepers:
            keeper.stop()
        self._wait_for(
            lambda: not any(keeper.is_alive() for keeper in self._keepers),
            f"servers did not end within {END_SECONDS:g} s",
        )

    def _wait_for(self, condition: Callable[[], bool], problem: str) -> None:
        if not self._until(condition, END_SECONDS):
            self._report.problems.append(problem)

    def _close(self) -> Report:
        report = self._take_stock()
        for each in self._everybody():
            report.problems += each.problems
        for keeper in self._keepers:
            report.logged += filter(_is_error, keeper.server.said().splitlines())
        return report

    def _take_stock(self) -> Report:
        report = self._report
        report.ends = [keeper.ends for keeper in self._keepers]
        report.looks = [keeper.looks for keeper in self._keepers]
        report.pranks = sum((keeper.pranks for keeper in self._keepers), Counter())
        report.clients_killed = sum(crowd.kills for crowd in self._crowds)
        return report

    @contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        try:
            yield
        finally:
            for each in self._everybody():
                each.give_up()


def _is_error(line: str) -> bool:
    """Whether a log's line tells of an error that no prank explains; one that is no JSON does."""
    try:
        told = json.loads(line)
        return told["level"] in {"ERROR", "CRITICAL"} and not EXPLAINED.search(told["message"])
    except (ValueError, KeyError):
        return True
