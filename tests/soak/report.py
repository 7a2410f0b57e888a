"""What a soak saw, and whether that is good enough."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.soak.account import Attempt, Claim
from tests.soak.keeper import End, Look, Prank
from tests.soak.plan import Kind

EXAMPLES = 10  # of each kind of trouble
GROWTH_AT_MOST = 32.0  # MiB in a life; caches fill, and sessions that nobody ends stay for a while


@dataclass(kw_only=True)
class Report:
    """What a soak saw."""

    done: Counter[Kind] = field(default_factory=Counter)  # what clients did to the end
    broken_off: Counter[Kind] = field(default_factory=Counter)  # what an error ended
    texts: int = 0  # that were compared, parts of texts too
    symbols: int = 0  # of those
    takeovers: int = 0  # streams that the other server took over in mid-text
    expected: Counter[str] = field(default_factory=Counter)  # errors that a kill explains, by name
    unexpected: Counter[str] = field(default_factory=Counter)
    mismatches: int = 0  # texts that were not those computed alone
    problems: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)  # of unexpected errors and of mismatches
    ends: list[list[End]] = field(default_factory=list)  # of each server
    pranks: Counter[Prank] = field(default_factory=Counter)
    clients_killed: int = 0  # processes of them
    looks: list[list[Look]] = field(default_factory=list)  # at each server's metrics
    leaks: dict[str, float] = field(default_factory=dict)  # what servers hold in the end
    logged: list[str] = field(default_factory=list)  # errors in the servers' logs

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
        lives: dict[tuple[int, int], list[Look]] = defaultdict(list)
        for index, looks in enumerate(self.looks):
            for look in looks:
                lives[index, look.life].append(look)
        longest = max(lives.values(), key=len, default=[])  # looks come at equal intervals
        if len(longest) < 4:
            return None
        return _mebibytes(longest[len(longest) // 4]), _mebibytes(longest[-1])

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
                f"MiB by minute, server {n}": _minutes(each) for n, each in enumerate(self.looks, 1)
            },
            "failures": "; ".join([*failures(self), *self.examples]) or "none",
        }

    def _done(self, kind: Kind) -> str:
        broken = self.broken_off[kind]
        return f"{self.done[kind]:,}" + (f" and {broken:,} broken off" if broken else "")

    def _show(self, example: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


def failures(report: Report) -> list[str]:
    """Tell why a soak has failed; nothing if it has not."""
    return [*faults(report), *gaps(report)]


def gaps(report: Report) -> list[str]:
    """Tell what a soak has not tried."""
    found = [f"never done: {kind.value}" for kind in Kind if not report.done[kind]]
    found += [f"never done: {prank.value}" for prank in Prank if not report.pranks[prank]]
    found += [f"no server was ended by {end.value}" for end in End if not report.count_of(end)]
    found += [] if report.clients_killed else ["no clients were killed"]
    found += [] if report.takeovers else ["no stream was taken over by the other server"]
    return found


def faults(report: Report) -> list[str]:
    """Tell what a soak has seen that should not be."""
    found = []
    if report.mismatches:
        found.append(f"{report.mismatches} of {report.texts} texts are not those computed alone")
    found += [f"unexpected error: {name}, {n} times" for name, n in report.unexpected.items()]
    found += [f"still held at the end: {name} = {n:g}" for name, n in report.leaks.items() if n]
    if never := sum(map(_never, report.looks)):
        found.append(f"{never} calls ended with INTERNAL or UNKNOWN on the servers")
    if report.logged:
        found.append(f"{len(report.logged)} errors in the servers' logs: {report.logged[0]}")
    grown = report.growth()
    if grown is not None and grown[1] - grown[0] > GROWTH_AT_MOST:
        found.append(f"a server's memory grew from {grown[0]:.1f} to {grown[1]:.1f} MiB")
    return found + report.problems[:EXAMPLES]


def _never(looks: list[Look]) -> int:
    """Count over all lives; the last look at a life has all of it."""
    return sum({look.life: look.page.never for look in looks}.values())


def _mebibytes(look: Look) -> float:
    return look.page.resident_bytes / 2**20


def _minutes(looks: list[Look]) -> str:
    """Tell a server's memory, the most of each minute."""
    most: dict[float, float] = defaultdict(float)
    for look in looks:
        minute = (look.seconds - looks[0].seconds) // 60
        most[minute] = max(most[minute], _mebibytes(look))
    return " ".join(f"{each:.0f}" for each in most.values())


def _counted(errors: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in errors.most_common()) or "none"
