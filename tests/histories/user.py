"""A client of a history."""

import random
import threading
import time
from collections.abc import Callable
from itertools import count

from tests.histories.calls import Birth, Call, Kind, Outcome
from tests.histories.replicas import Replicas
from tests.histories.shared import Shared, outcome_of
from tests.histories.steps import MARKS
from unroll.client.client import Client
from unroll.client.faces.session import Session
from unroll.errors import UnrollError
from unroll.options import GenerateOptions, SessionOptions

LENGTHS = range(4, 48)  # symbols of an answer, enough to tell it from another
LONG = 400  # of one that is still running when its server is stopped
PROMPT = 3  # symbols
PATIENCE = 4.0  # seconds for a call
SESSIONS = 14  # at once, about
SEEDS = 2**31  # of sessions that are started from others


class User(threading.Thread):
    """A client that uses all sessions through all servers.

    Args:
        servers: which.
        shared: takes what it sees.
        symbols: of the model.
        number: its own.
        chance: of what it does.
        patience: seconds for a call.
    """

    def __init__(
        self,
        servers: Replicas,
        shared: Shared,
        symbols: str,
        number: int,
        chance: random.Random,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(name=f"user {number}", daemon=True)
        self._servers = servers
        self._shared = shared
        self._symbols = symbols
        self._number = number
        self._requests = count(number, 1000)
        self._chance = chance
        self._patience = patience
        self._positions: dict[str, int] = {}
        self._handles: dict[tuple[int, str], Session] = {}
        self._is_over = threading.Event()

    def end(self) -> None:
        """Let it end its call, and wait for that."""
        self._is_over.set()
        self.join()

    def run(self) -> None:
        """Use the sessions until the end."""
        clients = [Client(address) for address in self._servers.addresses]
        kinds = {
            self._write: 60, self._look: 12, self._score: 5, self._rewind: 14, self._fork: 6,
            self._end: 3,
        }  # fmt: skip
        while not self._is_over.is_set():
            session = self._chance.choice(self._shared.living)
            (does,) = self._chance.choices([*kinds], [*kinds.values()])
            does(clients, session)
        for client in clients:
            client.close()

    def _write(self, clients: list[Client], session: str) -> None:
        """Go on with a session; if no answer comes, ask another server for the same."""
        expected = self._positions.get(session) if self._chance.random() < 0.5 else None
        length = LONG if self._chance.random() < 0.2 else self._chance.choice(LENGTHS)
        prompt = self._prompt()
        request = next(self._requests)
        for _ in range(2):
            client = self._chance.choice(clients)
            call, capsule = self.go_on(client, session, prompt, length, expected, request)
            if call.outcome is not Outcome.MAYBE or expected is None:
                break
        if call.outcome is Outcome.DONE and self._is_room() and self._chance.random() < 0.05:
            self._adopt(self._chance.choice(clients), call, capsule)

    def _prompt(self) -> str:
        return "".join(self._chance.choices(self._symbols, k=PROMPT))

    def _is_room(self) -> bool:
        return len(self._shared.living) < SESSIONS

    def go_on(
        self,
        client: Client,
        session: str,
        prompt: str,
        length: int,
        expected: int | None,
        request: int,
    ) -> tuple[Call, bytes]:
        """Go on with a session, note what came of it, and return its capsule, too."""
        capsule = b""

        def ask() -> dict[str, object]:
            nonlocal capsule
            options = GenerateOptions(max_new_symbols=length)
            text, capsule, position = self._ask(client, session, prompt, options, expected)
            self._positions[session] = position
            known = self._shared.marks.get(session, ())
            self._shared.marks[session] = (*known[1 - MARKS :], position)
            return {"position": position, "text": text}

        about = {"prompt": prompt, "length": length, "expected": expected, "request": request}
        return self._do(Kind.GO_ON, session, ask, **about), capsule

    def _ask(
        self,
        client: Client,
        session: str,
        prompt: str,
        options: GenerateOptions,
        expected: int | None,
    ) -> tuple[str, bytes, int]:
        if self._chance.random() < 0.5:
            answer = client.generate(
                prompt, options, session=session, expected_position=expected, timeout=self._patience
            )
            return answer.text, answer.capsule, answer.completion.position
        text, capsule, position = "", b"", 0
        for piece in client.stream(
            prompt, options, session=session, expected_position=expected, timeout=self._patience
        ):
            text, capsule = text + piece.text, piece.capsule
            if piece.completion is not None:
                position = piece.completion.position
        return text, capsule, position

    def _do(
        self, kind: Kind, session: str, ask: Callable[[], dict[str, object]], **about: object
    ) -> Call:
        """Make a call and note what came of it."""
        started = time.monotonic()

        def call(outcome: Outcome, **more: object) -> Call:
            return Call(
                session=session, kind=kind, started=started, ended=time.monotonic(),
                outcome=outcome, **{**about, **more},  # type: ignore[arg-type]  # of mixed types
            )  # fmt: skip

        self._shared.running[self._number] = call(Outcome.MAYBE)
        try:
            ended = call(Outcome.DONE, **ask())
        except UnrollError as error:
            ended = call(outcome_of(error), told=str(error))
            self._shared.note_error(session, started, error)
        self._shared.seen.calls.append(ended)
        del self._shared.running[self._number]
        return ended

    def _reach(self, clients: list[Client], session: str) -> Session:
        number = self._chance.randrange(len(clients))
        key = (number, session)
        if key not in self._handles:
            self._handles[key] = clients[number].get_session(session, timeout=self._patience)
        return self._handles[key]

    def _look(self, clients: list[Client], session: str) -> None:
        started = time.monotonic()
        try:
            info = self._reach(clients, session).describe(timeout=self._patience)
        except UnrollError as error:
            self._shared.note_error(session, started, error)
        else:
            self._shared.marks[session] = info.marks
            self._shared.note(session, started, position=info.position, marks=info.marks)

    def _score(self, clients: list[Client], session: str) -> None:
        text = self._prompt()
        started = time.monotonic()
        try:
            scored = self._reach(clients, session).score(text, timeout=self._patience)
        except UnrollError as error:
            self._shared.note_error(session, started, error)
        else:
            self._shared.note(session, started, text=text, scores=scored.log_probs)

    def _rewind(self, clients: list[Client], session: str) -> None:
        target = self._chance.choice(self._shared.marks.get(session, (0,)))

        def ask() -> dict[str, object]:
            info = self._reach(clients, session).rewind(target, timeout=self._patience)
            self._positions[session] = info.position
            self._shared.marks[session] = info.marks
            return {"position": info.position, "marks": info.marks}

        self._do(Kind.REWIND, session, ask, target=target)

    def _fork(self, clients: list[Client], session: str) -> None:
        if not self._is_room():
            return
        seeds = [self._chance.randrange(SEEDS) for _ in range(self._chance.randint(1, 3))]
        started = time.monotonic()

        def ask() -> dict[str, object]:
            forks = self._reach(clients, session).fork(seeds, timeout=self._patience)
            for fork, seed in zip(forks, seeds, strict=True):
                self._begin(fork, started, seed, session, None)
            return {"position": forks[0].position}

        self._do(Kind.FORK, session, ask)

    def _adopt(self, client: Client, origin: Call, capsule: bytes) -> None:
        """Start a session from an answer's capsule."""
        seed = self._chance.randrange(SEEDS)
        started = time.monotonic()

        def ask() -> dict[str, object]:
            options = SessionOptions(seed=seed)
            child = client.start_session(options, capsule=capsule, timeout=self._patience)
            self._begin(child, started, seed, origin.session, origin)
            return {"position": child.position}

        self._do(Kind.ADOPT, origin.session, ask)

    def _begin(
        self, child: Session, started: float, seed: int, parent: str, after: Call | None
    ) -> None:
        birth = Birth(
            session=child.session_id, started=started, ended=time.monotonic(),
            position=child.position, seed=seed, parent=parent, after=after,
        )  # fmt: skip
        self._shared.start(birth)

    def _end(self, clients: list[Client], session: str) -> None:
        if session in self._shared.living[: self._shared.kept]:
            return

        def ask() -> dict[str, object]:
            self._reach(clients, session).end(timeout=self._patience)
            return {}

        self._do(Kind.END, session, ask)  # whoever asks for it next is told that it is gone
