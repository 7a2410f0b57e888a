"""What the clients do, drawn from the soak's seed: never from what happens."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from serving.runtime.sampling import SamplingParams
from unroll.options import GenerateOptions, SessionOptions
from unroll.terms import SEED_LIMIT, Capsules


class Kind(Enum):
    """What a client can do; each must happen, or the soak has tested nothing."""

    GENERATE = "generate"
    SAMPLES = "several samples"
    SCORE = "score"
    STREAM = "stream"
    CANCEL = "cancel a stream"
    STALL = "stall a stream"
    DEADLINE = "let a deadline pass"
    CLOSE = "close the channel"
    RESUME = "resume on the other server"
    CAPSULE = "continue from a capsule"
    START = "start a session"
    SESSION_GENERATE = "generate in a session"
    SESSION_STREAM = "stream in a session"
    SESSION_CANCEL = "cancel in a session"
    SESSION_SCORE = "score in a session"
    REPLAY = "ask again at an old position"
    DESCRIBE = "describe a session"
    FORK = "fork a session"
    REWIND = "rewind a session"
    END = "end a session"
    SWAPPED = "generate while bundles are exchanged"
    FAR_DEADLINE = "call with a far deadline"
    DEAF = "leave answers unread"
    UNFINISHED = "leave messages unfinished"
    GIANT = "send giant messages"
    GREEDY = "make hundreds of calls"


# One deal: all that does not need a session, and START, which leads to the rest.
DECK = (
    *(Kind.GENERATE, Kind.SAMPLES, Kind.SCORE, Kind.STREAM, Kind.CANCEL, Kind.STALL),
    *(Kind.DEADLINE, Kind.CLOSE, Kind.RESUME, Kind.RESUME, Kind.RESUME, Kind.CAPSULE),
    *(Kind.CAPSULE, Kind.START, Kind.START, Kind.SWAPPED),
    *(Kind.FAR_DEADLINE, Kind.DEAF, Kind.UNFINISHED, Kind.GIANT, Kind.GREEDY),
)
DRAWN = ("temperature", "top_k", "top_p", "min_p")
SAMPLINGS = (
    *(SamplingParams(), SamplingParams(), SamplingParams(temperature=0.7)),
    *(SamplingParams(temperature=0.0), SamplingParams(top_k=5, temperature=1.3)),
    *(SamplingParams(top_p=0.9), SamplingParams(min_p=0.05)),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A text that is asked for: at most `new` symbols, 1 or more, that go on after a prompt."""

    prompt: str
    new: int
    seed: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()

    def options(self, capsules: Capsules | None = None) -> GenerateOptions:
        return GenerateOptions(
            max_new_symbols=self.new, seed=self.seed, stop=self.stop, log_probs=True,
            capsules=capsules, **self.drawn,
        )  # fmt: skip

    @property
    def drawn(self) -> dict[str, Any]:
        """How it is drawn, by the parameters' names."""
        return {name: getattr(self.sampling, name) for name in DRAWN}

    @property
    def in_session(self) -> GenerateOptions:
        """The same in a session, which has seed and sampling parameters in force."""
        return GenerateOptions(max_new_symbols=self.new, log_probs=True)

    @property
    def start(self) -> SessionOptions:
        return SessionOptions(seed=self.seed, **self.drawn)


class Step:
    """One thing that a client does; its draws are the same in each soak of the same seed.

    Args:
        symbols: of the model.
        name: the soak's seed and whose which step it is.
    """

    def __init__(self, symbols: str, *name: int) -> None:
        self.chance = random.Random(":".join(map(str, name)))
        self._symbols = symbols

    def text(self, longest: int, *, has_stops: bool = False) -> Asked:
        """Draw a text of so many symbols at most."""
        return Asked(
            prompt=self.symbols(self.chance.randrange(30)),
            new=1 + self.chance.randrange(longest),
            seed=self.chance.randrange(SEED_LIMIT),
            sampling=self.chance.choice(SAMPLINGS),
            stop=tuple(self.symbols(2) for _ in range(self.chance.randrange(3)) if has_stops),
        )

    def symbols(self, count: int) -> str:
        return "".join(self.chance.choices(self._symbols, k=count))


def deal(*name: int) -> Iterator[Kind]:
    """Yield what a client does, for ever; each deal of the deck has all of it."""
    shuffling = random.Random(":".join(map(str, name)))
    while True:
        yield from shuffling.sample(DECK, len(DECK))
