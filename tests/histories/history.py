"""One history: clients, faults, and what came of them."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.histories.calls import Call, Look, Loss, Outcome
from tests.histories.check import Judge
from tests.histories.faults import Faults
from tests.histories.oracle import Oracle
from tests.histories.replicas import LEASE_SECONDS, Replicas, replicas
from unroll import load
from unroll.client.client import Client
from unroll.errors import (
    PositionError,
    SessionBusyError,
    SessionEndedError,
    SessionUnknownError,
    StoreError,
    UnavailableError,
    UnrollError,
)
from unroll.options import GenerateOptions, SessionOptions

SEED = 7
LENGTHS = range(4, 24)  # symbols of an answer, enough to tell it from another
LONG = 400  # of one that is still running when its server is stopped
PROMPT = 3  # symbols
PATIENCE = 4.0  # seconds for a call
HELD_SECONDS = 60.0  # for which a session may be busy once nothing goes wrong any more
JUDGE_SECONDS = 2.0  # between two judgements while a planted fault is looked for
NEVER_CONNECTED = "failed to connect"
STAYS = "the session stays as it was"  # and so it changed nothing
TAKEN = "was taken over"
LOST = (SessionUnknownError, SessionEndedError)


@dataclass
class History:
    """All that was seen.

    Attributes:
        sessions: ids.
        calls: requests that go on with a session.
        looks: requests that read one.
        running: calls that have no answer yet, by thread.
        losses: that were declared.
        faults: how many of each kind.
        lost: answers that losses have undone.
        wrong: what cannot be.
        seconds: after which something wrong was found, or that it took.
    """

    sessions: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    running: dict[int, Call] = field(default_factory=dict)
    losses: Sequence[Loss] = ()
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Return how many of each kind there were."""
        outcomes = [call.outcome for call in self.calls]
        return {
            "seconds": round(self.seconds),
            "sessions": len(self.sessions),
            "faults": self.faults.total(),
            **{f"  {name}": made for name, made in sorted(self.faults.items())},
            "calls": len(self.calls),
            **{f"  {each.value}": outcomes.count(each) for each in Outcome},
            "  done, then lost": self.lost,
            "symbols": sum(len(call.text) for call in self.calls),
            "looks": len(self.looks),
            "violations": len(self.wrong),
        }

    def judge(self, oracle: Oracle) -> None:
        """Find what cannot be true, session by session."""
        self.lost = 0
        running = list(self.running.values())  # first, so that no call is missed that ends now
        calls, looks = [*self.calls, *running], list(self.looks)

        def one(session: str) -> None:
            its = [call for call in calls if call.session == session]
            judge = Judge(oracle, its, self.losses, LEASE_SECONDS)
            verdict = judge.judge([look for look in looks if look.session == session])
            self.wrong += verdict.wrong
            self.lost += verdict.lost

        with ThreadPoolExecutor() as threads:
            list(threads.map(one, self.sessions))


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
        sessions: that all clients share.
        clients: at once.
        planted: name of a planted fault; then the first violation is looked for all the time, and
            is the end. Empty for none.
        kinds: of faults; all by default.
    """
    history = History()
    with load(bundle) as model, replicas(bundle, folder, count=3, planted=planted) as all_of_them:
        servers, store = all_of_them
        oracle = Oracle(model, SEED)
        info = model.get_model()
        symbols = info.vocabulary.replace(info.start_symbol, "")
        with Client(servers.addresses[0]) as client:
            start = SessionOptions(seed=SEED)
            history.sessions = [client.start_session(start).session_id for _ in range(sessions)]
        users = [
            User(servers, history, symbols, number, random.Random(seed * 1000 + number))
            for number in range(clients)
        ]
        faults = Faults(servers, store, seed, kinds)
        history.losses, history.faults = store.losses, faults.made
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


class User(threading.Thread):
    """A client that uses all sessions through all servers.

    Args:
        servers: which.
        history: takes what it sees.
        symbols: of the model.
        number: its own.
        chance: of what it does.
        patience: seconds for a call.
    """

    def __init__(
        self,
        servers: Replicas,
        history: History,
        symbols: str,
        number: int,
        chance: random.Random,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(name=f"user {number}", daemon=True)
        self._servers = servers
        self._history = history
        self._symbols = symbols
        self._number = number
        self._requests = count(number, 1000)
        self._chance = chance
        self._patience = patience
        self._is_over = threading.Event()

    def end(self) -> None:
        """Let it end its call, and wait for that."""
        self._is_over.set()
        self.join()

    def run(self) -> None:
        """Use the sessions until the end."""
        clients = [Client(address) for address in self._servers.addresses]
        positions = dict.fromkeys(self._history.sessions, 0)
        while not self._is_over.is_set():
            client, session = self._chance.choice(clients), self._chance.choice([*positions])
            if self._chance.random() < 0.2:
                self._look(client, session)
                continue
            expected = positions[session] if self._chance.random() < 0.5 else None
            length = LONG if self._chance.random() < 0.2 else self._chance.choice(LENGTHS)
            prompt = "".join(self._chance.choices(self._symbols, k=PROMPT))
            request = next(self._requests)
            call = self.go_on(client, session, prompt, length, expected, request)
            if call.outcome is Outcome.MAYBE and expected is not None:
                client = self._chance.choice(clients)
                call = self.go_on(client, session, prompt, length, expected, request)
            if call.outcome is Outcome.DONE:
                positions[session] = call.position
        for client in clients:
            client.close()

    def go_on(
        self,
        client: Client,
        session: str,
        prompt: str,
        length: int,
        expected: int | None,
        request: int,
    ) -> Call:
        """Go on with a session and note what came of it."""
        started = time.monotonic()

        def call(outcome: Outcome, position: int = 0, text: str = "", *, told: object = "") -> Call:
            return Call(
                session=session, started=started, ended=time.monotonic(), prompt=prompt,
                length=length, expected=expected, request=request, outcome=outcome,
                position=position, text=text, told=str(told),
            )  # fmt: skip

        self._history.running[self._number] = call(Outcome.MAYBE)
        try:
            ended = call(Outcome.DONE, *self._ask(client, session, prompt, length, expected))
        except UnrollError as error:
            ended = call(_outcome(error), told=error)
            if isinstance(error, PositionError):
                self._note(session, started, error.actual)
            elif isinstance(error, LOST):
                self._history.wrong.append(f"{session}: {error}")
        self._history.calls.append(ended)
        del self._history.running[self._number]
        return ended

    def _ask(
        self, client: Client, session: str, prompt: str, length: int, expected: int | None
    ) -> tuple[int, str]:
        options = GenerateOptions(max_new_symbols=length)
        if self._chance.random() < 0.5:
            answer = client.generate(
                prompt, options, session=session, expected_position=expected, timeout=self._patience
            )
            return answer.completion.position, answer.text
        text, position = "", 0
        for piece in client.stream(
            prompt, options, session=session, expected_position=expected, timeout=self._patience
        ):
            text += piece.text
            if piece.completion is not None:
                position = piece.completion.position
        return position, text

    def _look(self, client: Client, session: str) -> None:
        started = time.monotonic()
        try:
            position = client.get_session(session).describe(timeout=self._patience).position
        except LOST as error:
            self._history.wrong.append(f"{session}: {error}")
        except UnrollError:
            pass
        else:
            self._note(session, started, position)

    def _note(self, session: str, started: float, position: int) -> None:
        look = Look(session=session, started=started, ended=time.monotonic(), position=position)
        self._history.looks.append(look)


def _outcome(error: UnrollError) -> Outcome:
    """Tell what an error promises."""
    told = str(error)
    if isinstance(error, SessionBusyError) and TAKEN in told:
        return Outcome.TAKEN_OVER
    is_refused = (
        isinstance(error, (PositionError, SessionBusyError, *LOST))
        or (isinstance(error, UnavailableError) and NEVER_CONNECTED in told)
        or (isinstance(error, StoreError) and STAYS in told)
    )
    return Outcome.REFUSED if is_refused else Outcome.MAYBE


def _ask_all(servers: Replicas, history: History, symbols: str) -> None:
    """Go on with each session once more: none is held for ever."""
    user = User(servers, history, symbols, -1, random.Random(0), HELD_SECONDS)
    with Client(servers.proxy) as client:
        for number, session in enumerate(history.sessions):
            ends = time.monotonic() + HELD_SECONDS
            request = -1 - number
            while user.go_on(client, session, symbols[:PROMPT], 20, None, request).outcome not in {
                Outcome.DONE
            }:
                if time.monotonic() > ends:
                    history.wrong.append(f"{session}: is held for ever")
                    break
                time.sleep(0.1)
