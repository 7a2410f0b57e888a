"""One history: clients, faults, and what came of them."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.histories.check import Call, Look, Outcome, violations
from tests.histories.replicas import Replicas, replicas
from unroll import load
from unroll.client.client import Client
from unroll.errors import (
    PositionError,
    SessionBusyError,
    SessionEndedError,
    SessionUnknownError,
    UnrollError,
)
from unroll.options import GenerateOptions, SessionOptions

SEED = 7
LENGTHS = range(1, 24)  # symbols of a request
LONG = 400  # of one that is still running when its server is stopped
PATIENCE = 4.0  # seconds for a call
HELD_SECONDS = 30.0  # for which a session may be busy once nothing goes wrong any more
REFUSED = (PositionError, SessionBusyError)
LOST = (SessionUnknownError, SessionEndedError)


@dataclass
class History:
    """All that was seen.

    Attributes:
        calls: requests that go on with a session.
        looks: requests that read one.
        wrong: what can never be: a session that is not known any more, say.
        faults: that were made.
        sessions: that were used.
    """

    calls: list[Call] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    faults: int = 0
    sessions: int = 0

    def counts(self) -> dict[str, int]:
        """Return how many of each kind there were."""
        outcomes = [call.outcome for call in self.calls]
        return {
            "sessions": self.sessions,
            "faults": self.faults,
            "calls": len(self.calls),
            **{f"calls {each.value}": outcomes.count(each) for each in Outcome},
            "symbols": sum(len(call.text) for call in self.calls),
            "looks": len(self.looks),
            "violations": len(self.wrong),
        }


def make_history(
    bundle: Path,
    folder: Path,
    seconds: float,
    *,
    seed: int = 1,
    sessions: int = 6,
    clients: int = 6,
    planted: str = "",
    stop_at_first: bool = False,
) -> History:
    """Let clients use sessions through servers that faults befall, and judge what they saw.

    Args:
        bundle: to serve.
        folder: for what the store writes.
        seconds: for which faults come.
        seed: of the plan.
        sessions: that all clients share.
        clients: at once.
        planted: name of a planted fault; empty for none.
        stop_at_first: whether to look for violations all the time and to end with the first.
    """
    history = History(sessions=sessions)
    with replicas(bundle, folder, count=3, planted=planted) as servers:
        with Client(servers.addresses[0]) as client:
            start = SessionOptions(seed=SEED)
            ids = [client.start_session(start).session_id for _ in range(sessions)]
        is_over = threading.Event()
        threads = [
            threading.Thread(
                target=_use, args=(servers, ids, history, is_over, random.Random(seed * 1000 + n))
            )
            for n in range(clients)
        ]
        for thread in threads:
            thread.start()
        chance, ends = random.Random(seed), time.monotonic() + seconds
        while time.monotonic() < ends and not (stop_at_first and _overlaps(history)):
            time.sleep(chance.uniform(0.1, 0.6))
            servers.harm(chance)
        is_over.set()
        for thread in threads:
            thread.join()
        history.faults = servers.faults
        last = _positions(servers, ids, history)
    with load(bundle) as model:
        longest = max([*last.values(), *(call.position for call in history.calls)])
        truth = model.generate("", GenerateOptions(max_new_symbols=longest or 1, seed=SEED)).text
    for session in ids:
        calls = [call for call in history.calls if call.session == session]
        looks = [look for look in history.looks if look.session == session]
        history.wrong += violations(session, truth, calls, looks, last[session])
    return history


def _use(
    servers: Replicas,
    ids: list[str],
    history: History,
    is_over: threading.Event,
    chance: random.Random,
) -> None:
    clients = [Client(address) for address in servers.addresses]
    positions = dict.fromkeys(ids, 0)
    while not is_over.is_set():
        client, session = chance.choice(clients), chance.choice(ids)
        if chance.random() < 0.2:
            _look(client, session, history)
            continue
        expected = positions[session] if chance.random() < 0.5 else None
        length = LONG if chance.random() < 0.2 else chance.choice(LENGTHS)
        call = _go_on(client, session, length, expected, history)
        history.calls.append(call)
        if call.outcome is Outcome.DONE:
            positions[session] = call.position
    for client in clients:
        client.close()


def _go_on(
    client: Client, session: str, length: int, expected: int | None, history: History
) -> Call:
    started = time.monotonic()
    outcome, position, text = Outcome.MAYBE, 0, ""
    try:
        answer = client.generate(
            "",
            GenerateOptions(max_new_symbols=length),
            session=session,
            expected_position=expected,
            timeout=PATIENCE,
        )
        outcome, position, text = Outcome.DONE, answer.completion.position, answer.text
    except REFUSED:
        outcome = Outcome.REFUSED
    except LOST as error:
        history.wrong.append(f"{session}: {error}")
    except UnrollError:
        pass  # nobody knows
    return Call(
        session=session, started=started, ended=time.monotonic(), length=length,
        expected=expected, outcome=outcome, position=position, text=text,
    )  # fmt: skip


def _look(client: Client, session: str, history: History) -> None:
    started = time.monotonic()
    try:
        position = client.get_session(session).describe(timeout=PATIENCE).position
    except LOST as error:
        history.wrong.append(f"{session}: {error}")
    except UnrollError:
        return
    else:
        look = Look(session=session, started=started, ended=time.monotonic(), position=position)
        history.looks.append(look)


def _positions(servers: Replicas, ids: list[str], history: History) -> dict[str, int]:
    """Return where each session stands after one more symbol: none is held for ever."""
    found = {}
    with Client(servers.addresses[-1]) as client:
        for session in ids:
            ends = time.monotonic() + HELD_SECONDS
            while True:
                call = _go_on(client, session, 1, None, history)
                history.calls.append(call)
                if call.outcome is Outcome.DONE:
                    break
                assert time.monotonic() < ends, f"{session} is held for ever"
                time.sleep(0.1)
            found[session] = client.get_session(session).describe().position
    return found


def _overlaps(history: History) -> bool:
    spans: dict[tuple[str, int], Call] = {}
    for call in list(history.calls):
        if call.outcome is Outcome.DONE:
            other = spans.setdefault((call.session, call.begins), call)
            is_again = call.expected is not None and call.expected == other.expected
            if other is not call and not is_again:
                return True
    return False
