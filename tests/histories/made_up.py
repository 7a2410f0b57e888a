"""Made-up answers, of which the checker's tests make histories."""

import hashlib
from collections.abc import Hashable
from dataclasses import replace
from itertools import count

from tests.histories.calls import Call, Kind, Look, Loss, Outcome
from tests.histories.check import Judge
from tests.histories.oracle import Computed
from tests.histories.steps import Point

LEASE = 0.5


class Letters:
    """Texts whose every letter depends on all that came before; a state is all of that."""

    def seeded(self, state: Hashable, seed: int) -> bytes:
        assert isinstance(state, bytes)
        return bytes((each + seed) % 256 for each in state)

    def score(self, state: Hashable, text: str) -> tuple[float, ...]:
        assert isinstance(state, bytes)
        digest = hashlib.sha256(state + b"?" + text.encode()).digest()
        return tuple(each / 10 for each in digest[: len(text)])

    def go_on(self, state: Hashable, prompt: str, length: int) -> Computed:
        assert isinstance(state, bytes)
        seed = hashlib.sha256(state + b"|" + prompt.encode()).hexdigest()
        text = (seed * (length // len(seed) + 1))[:length]
        return Computed(text=text, state=state + prompt.encode() + text.encode())


TEXT = Letters()
START = [Point(None, 0, b"")]
NUMBERS = count(100)


def done(state: bytes, prompt: str, at: float, **changes: object) -> tuple[Call, bytes]:
    """Answer four symbols at a state, within a second; gives the next state, too."""
    after = then(state, prompt)
    call = Call(
        session="s", started=at, ended=at + 1, prompt=prompt, length=4, outcome=Outcome.DONE,
        request=next(NUMBERS), position=len(after), text=TEXT.go_on(state, prompt, 4).text,
    )  # fmt: skip
    return replace(call, **changes), after  # type: ignore[arg-type]  # of mixed types


def then(state: bytes, prompt: str) -> bytes:
    after = TEXT.go_on(state, prompt, 4).state
    assert isinstance(after, bytes)
    return after


def maybe(prompt: str, at: float, **changes: object) -> Call:
    call, _ = done(b"", prompt, at)
    values = {"outcome": Outcome.MAYBE, "position": 0, "text": ""} | changes
    return replace(call, **values)  # type: ignore[arg-type]  # of mixed types


def rewound(target: int, at: float, **changes: object) -> Call:
    call = Call(
        session="s", kind=Kind.REWIND, started=at, ended=at + 1, target=target, position=target,
        marks=(target,), outcome=Outcome.DONE,
    )  # fmt: skip
    return replace(call, **changes)  # type: ignore[arg-type]  # of mixed types


def maybe_rewound(target: int, at: float) -> Call:
    return rewound(target, at, outcome=Outcome.MAYBE, position=0, marks=())


def was_ended(at: float) -> Call:
    return Call(session="s", kind=Kind.END, started=at, ended=at + 1, outcome=Outcome.DONE)


def look(position: int, at: float, marks: tuple[int, ...] = ()) -> Look:
    return Look(session="s", started=at, ended=at + 1, position=position, marks=marks)


def judged(calls: list[Call], *losses: Loss, looks: tuple[Look, ...] = ()) -> list[str]:
    return Judge(TEXT, calls, losses, LEASE).judge(START, looks, ()).wrong


FIRST, ONE = done(b"", "a", 0.0)
SECOND, TWO = done(ONE, "b", 2.0)
THIRD, THREE = done(TWO, "c", 4.0)
LOSS = Loss(since=3.5, killed=10.0, gone=11.0)  # may undo the third, but not the second


def at(state: bytes, prompt: str, when: float = 20.0, **changes: object) -> Call:
    return done(state, prompt, when, **changes)[0]
