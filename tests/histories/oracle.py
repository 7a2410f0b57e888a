"""What a text is if a model computes it alone."""

from dataclasses import dataclass

from unroll.client.faces.face import Face
from unroll.options import GenerateOptions


@dataclass(frozen=True, kw_only=True)
class Computed:
    """An answer, and the state after it."""

    text: str
    state: bytes


class Oracle:
    """Computes answers in this process, each once.

    Args:
        model: an engine that no server has to do with.
        seed: of all sessions.
    """

    def __init__(self, model: Face, seed: int) -> None:
        self._model = model
        self._seed = seed
        self.start = b""
        self._known: dict[tuple[bytes, str, int], Computed] = {}

    def go_on(self, state: bytes, prompt: str, length: int) -> Computed:
        """Return what follows a state."""
        key = (state, prompt, length)
        if key not in self._known:
            seed = None if state else self._seed
            options = GenerateOptions(max_new_symbols=length, seed=seed)
            answer = self._model.generate(prompt, options, capsule=state)
            self._known[key] = Computed(text=answer.text, state=answer.capsule)
        return self._known[key]
