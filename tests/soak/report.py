"""What a soak saw, and whether that is good enough."""

from collections import Counter
from dataclasses import dataclass, field

from tests.soak.account import Attempt, Claim
from tests.soak.keeper import End, Look, Prank
from tests.soak.plan import Kind

EXAMPLES = 10  # of each kind of trouble
GROWTH_AT_MOST = 32.0  # MiB in a life; caches fill, and sessions that nobody ends stay for a while


@dataclass(kw_only=True)
class Report:
    """What a soak saw.

    Attributes:
        seconds: how long it has lasted.
        done: by kind, what clients did to the end.
        broken_off: by kind, what an error ended.
        texts: that were compared, parts of texts too.
        symbols: of those.
        takeovers: streams that the other server took over with a part of their text received.
        expected: errors that belong to servers that are killed, by name.
        unexpected: the others.
        mismatches: texts that were not those computed alone.
        problems: what else was not as it should be; the first of many.
        examples: of unexpected errors and of mismatches.
        ends: how each server was ended.
        pranks: that were played on the servers.
        clients_killed: processes of clients that were killed.
        looks: at each server's metrics.
        leaks: what the servers hold after the clients have gone, by name.
        logged: errors in the servers' logs.
    """

    seconds: float = 0.0
    done: Counter[Kind] = field(default_factory=Counter)
    broken_off: Counter[Kind] = field(default_factory=Counter)
    texts: int = 0
    symbols: int = 0
    takeovers: int = 0
    expected: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    mismatches: int = 0
    problems: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    ends: list[list[End]] = field(default_factory=list)
    pranks: Counter[Prank] = field(default_factory=Counter)
    clients_killed: int = 0
    looks: list[list[Look]] = field(default_factory=list)
    leaks: dict[str, float] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)

    def add(self, attempt: Attempt) -> None:
        """Count what a client did, but for its texts."""
        (self.done if attempt.is_done else self.broken_off)[attempt.kind] += 1
        self.takeovers += attempt.takeovers
        self.problems += attempt.problems
        for failure in attempt.failures:
            (self.expected if failure.is_expected else self.unexpected)[failure.name] += 1
            if not failure.is_expected:
                self._show(failure.message)

    def compare(self, claim: Claim, difference: str) -> None:
        """Count a text; the difference is empty for none."""
        self.texts += 1
        self.symbols += len(claim.text)
        if difference:
            self.mismatches += 1
            self._show(difference)

    def count_of(self, end: End) -> int:
        """How many servers were ended so."""
        return sum(ends.count(end) for ends in self.ends)

    def growth(self) -> tuple[float, float] | None:
        """Memory of the server that lived longest, after a quarter of that life and at its end.

        In MiB; None if there are fewer than four looks at it.
        """
        lives: dict[tuple[int, int], list[Look]] = {}
        for index, looks in enumerate(self.looks):
            for look in looks:
                lives.setdefault((index, look.life), []).append(look)
        longest = max(lives.values(), key=len, default=[])  # looks come at equal intervals
        if len(longest) < 4:
            return None
        early, late = longest[len(longest) // 4], longest[-1]
        return early.page.resident_bytes / 2**20, late.page.resident_bytes / 2**20

    def rows(self) -> dict[str, str]:
        """Lay out what was seen."""
        grown = self.growth()
        return {
            **{kind.value: self._done(kind) for kind in Kind},
            "texts compared": f"{self.texts:,} of {self.symbols:,} symbols",
            "mismatches": f"{self.mismatches:,}",
            "streams taken over": f"{self.takeovers:,}",
            **{f"servers ended by {end.value}": f"{self.count_of(end):,}" for end in End},
            **{prank.value: f"{self.pranks[prank]:,}" for prank in Prank},
            "processes of clients killed": f"{self.clients_killed:,}",
            "expected errors": _counted(self.expected),
            "unexpected errors": _counted(self.unexpected),
            "held at the end": ", ".join(f"{n} {v:g}" for n, v in self.leaks.items()),
            "memory of the longest life": f"{grown[0]:.1f} to {grown[1]:.1f} MiB" if grown else "-",
            **{
                f"MiB by minute, server {n}": _by_minute(each)
                for n, each in enumerate(self.looks, 1)
            },
            "failures": "; ".join([*failures(self), *self.examples]) or "none",
        }

    def _done(self, kind: Kind) -> str:
        broken = self.broken_off[kind]
        return f"{self.done[kind]:,}" + (f" and {broken:,} broken off" if broken else "")

    def _show(self, example: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


def _by_minute(looks: list[Look]) -> str:
    """Tell a server's memory, the most of each minute."""
    most: dict[float, float] = {}
    for look in looks:
        minute = (look.seconds - looks[0].seconds) // 60
        most[minute] = max(most.get(minute, 0.0), look.page.resident_bytes / 2**20)
    return " ".join(f"{each:.0f}" for each in most.values())


def _counted(errors: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in errors.most_common()) or "none"


def failures(report: Report) -> list[str]:
    """Tell why a soak has failed; nothing if it has not."""
    return [*faults(report), *gaps(report)]


def gaps(report: Report) -> list[str]:
    """Tell what a soak has not tried."""
    found = [f"never done: {kind.value}" for kind in Kind if not report.done[kind]]
    found += [f"never done: {prank.value}" for prank in Prank if not report.pranks[prank]]
    found += [f"no server was ended by {end.value}" for end in End if not report.count_of(end)]
    if not report.clients_killed:
        found.append("no clients were killed")
    if not report.takeovers:
        found.append("no stream was taken over by the other server")
    return found


def faults(report: Report) -> list[str]:
    """Tell what a soak has seen that should not be."""
    found = []
    if report.mismatches:
        found.append(f"{report.mismatches} of {report.texts} texts are not those computed alone")
    found += [
        f"unexpected error: {name}, {count} times" for name, count in report.unexpected.items()
    ]
    found += [f"still held at the end: {name} = {n:g}" for name, n in report.leaks.items() if n]
    never = sum(map(_never, report.looks))
    if never:
        found.append(f"{never} calls ended with INTERNAL or UNKNOWN on the servers")
    if report.logged:
        found.append(f"{len(report.logged)} errors in the servers' logs: {report.logged[0]}")
    grown = report.growth()
    if grown is not None and grown[1] - grown[0] > GROWTH_AT_MOST:
        found.append(f"a server's memory grew from {grown[0]:.1f} to {grown[1]:.1f} MiB")
    return found + report.problems[:EXAMPLES]


def _never(looks: list[Look]) -> int:
    last_of_life = {look.life: look.page.never for look in looks}
    return sum(last_of_life.values())
