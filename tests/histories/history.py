"""One history: clients, faults, and what came of them."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.histories.calls import Birth, Kind, Outcome
from tests.histories.faults import Faults
from tests.histories.judging import judge_all
from tests.histories.oracle import Oracle, State
from tests.histories.replicas import LEASE_SECONDS, Replicas, replicas
from tests.histories.shared import Shared
from tests.histories.user import PROMPT, User
from unroll import load
from unroll.client.client import Client
from unroll.options import SessionOptions

START = State(b"", None)
HELD_SECONDS = 60.0  # for which a session may be busy once nothing goes wrong any more
JUDGE_SECONDS = 2.0  # between two judgements while a planted fault is looked for


@dataclass
class History:
    """All that was seen.

    Attributes:
        shared: what the clients saw.
        faults: how many of each kind.
        lost: answers that losses have undone.
        wrong: what cannot be.
        seconds: after which something wrong was found, or that it took.
    """

    shared: Shared = field(default_factory=Shared)
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Return how many of each kind there were."""
        seen = self.shared.seen
        outcomes = [call.outcome for call in seen.calls]
        done = Counter(call.kind for call in seen.calls if call.outcome is Outcome.DONE)
        asked = Counter(call.kind for call in seen.calls)
        return {
            "seconds": round(self.seconds),
            "sessions": len(seen.births),
            "faults": self.faults.total(),
            **{f"  {name}": made for name, made in sorted(self.faults.items())},
            "declared losses": len(seen.losses),
            "calls": len(seen.calls),
            **{f"  {each.value}": outcomes.count(each) for each in Outcome},
            "  done, then lost": self.lost,
            **{f"{kind.value}, asked for": asked[kind] for kind in Kind},
            **{f"{kind.value}, done": done[kind] for kind in Kind},
            "symbols": sum(len(call.text) for call in seen.calls),
            "places read": sum(look.position is not None for look in seen.looks),
            "scores": sum(look.position is None for look in seen.looks),
            "absences": len(seen.absences),
            "violations": len(self.wrong),
        }

    def judge(self, oracle: Oracle) -> None:
        """Find what cannot be true of what was seen so far."""
        now = time.monotonic()
        running = [*self.shared.running.values()]  # before the others: none is missed that ends now
        seen = self.shared.seen.until(now, running)
        wrong, self.lost = judge_all(oracle, START, seen, LEASE_SECONDS)
        self.wrong += wrong


def make_history(
    bundle: Path,
    folder: Path,
    seconds: float,
    *,
    seed: int = 1,
    sessions: int = 6,
    clients: int = 6,
    planted: str = "",
    kinds: Sequence[str] = (),
) -> History:
    """Let clients use sessions through servers that faults befall, and judge what they saw.

    Args:
        bundle: to serve.
        folder: for what the store writes.
        seconds: for which faults come.
        seed: of the plan.
        sessions: that all clients share from the start to the end, beside those they start.
        clients: at once.
        planted: name of a planted fault; then the first violation is looked for all the time, and
            is the end. Empty for none.
        kinds: of faults; all by default.
    """
    history = History()
    shared = history.shared
    with load(bundle) as model, replicas(bundle, folder, count=3, planted=planted) as all_of_them:
        servers, store = all_of_them
        oracle = Oracle(model)
        info = model.get_model()
        symbols = info.vocabulary.replace(info.start_symbol, "")
        with Client(servers.addresses[0]) as client:
            for number in range(sessions):
                begun = client.start_session(SessionOptions(seed=number))
                shared.start(Birth(session=begun.session_id, started=0.0, ended=0.0, seed=number))
        shared.kept = sessions
        users = [
            User(servers, shared, symbols, number, random.Random(seed * 1000 + number))
            for number in range(clients)
        ]
        faults = Faults(servers, store, seed, kinds)
        shared.seen.losses, history.faults = store.losses, faults.made
        for user in users:
            user.start()
        _harm(history, faults, random.Random(seed), seconds, oracle if planted else None)
        for user in users:
            user.end()
        if not history.wrong:
            _ask_all(servers, history, symbols)
            history.judge(oracle)
    return history


def _harm(
    history: History,
    faults: Faults,
    chance: random.Random,
    seconds: float,
    oracle: Oracle | None,
) -> None:
    """Make faults for a while; with an oracle, judge meanwhile, and end at the first violation."""
    begun = judged = time.monotonic()
    while time.monotonic() < begun + seconds and not history.wrong:
        time.sleep(chance.uniform(0.1, 0.6))
        faults.make()
        if oracle is not None and time.monotonic() > judged + JUDGE_SECONDS:
            history.judge(oracle)
            judged = time.monotonic()
    history.seconds = time.monotonic() - begun


def _ask_all(servers: Replicas, history: History, symbols: str) -> None:
    """Go on with each session once more: none is held for ever."""
    shared = history.shared
    user = User(servers, shared, symbols, -1, random.Random(0), HELD_SECONDS)
    with Client(servers.proxy) as client:
        for number, session in enumerate([*shared.living]):
            ends = time.monotonic() + HELD_SECONDS
            while session in shared.living:  # else it was found to be ended
                call, _ = user.go_on(client, session, symbols[:PROMPT], 20, None, -1 - number)
                if call.outcome is Outcome.DONE:
                    break
                if time.monotonic() > ends:
                    history.wrong.append(f"{session}: is held for ever")
                    break
                time.sleep(0.1)
