"""What a text is if a model computes it alone."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from unroll.client.faces.face import Face
from unroll.options import GenerateOptions


@dataclass(frozen=True, kw_only=True)
class Computed:
    """An answer, and the state after it."""

    text: str
    state: Hashable


class State(NamedTuple):
    """What a text goes on from.

    Attributes:
        capsule: of the place; empty for the start.
        seed: from here on; None for the capsule's.
    """

    capsule: bytes
    seed: int | None


class Oracle:
    """Computes answers in this process, each once.

    Args:
        model: an engine that no server has to do with.
    """

    def __init__(self, model: Face) -> None:
        self._model = model
        self._known: dict[tuple[Hashable, str, int], Computed] = {}

    def seeded(self, state: Hashable, seed: int) -> State:
        """Return a state from which another seed goes on."""
        assert isinstance(state, State)
        return state._replace(seed=seed)

    def score(self, state: Hashable, text: str) -> tuple[float, ...]:
        """Return how likely each symbol of a text is after a state, in nats."""
        assert isinstance(state, State)
        return self._model.score(text, capsule=state.capsule).log_probs

    def go_on(self, state: Hashable, prompt: str, length: int) -> Computed:
        """Return what follows a state."""
        assert isinstance(state, State)
        key = (state, prompt, length)
        if key not in self._known:
            options = GenerateOptions(max_new_symbols=length, seed=state.seed)
            answer = self._model.generate(prompt, options, capsule=state.capsule)
            self._known[key] = Computed(text=answer.text, state=State(answer.capsule, None))
        return self._known[key]
