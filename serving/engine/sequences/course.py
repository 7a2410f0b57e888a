"""How far a request is: what its next steps read, force or draw."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.engine.sequences.prefixes import next_boundary
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.runtime.sampling import BLOCK, uniforms

NO_UNIFORMS = np.zeros(0, np.float32)


@dataclass(kw_only=True)
class Settling:
    """The way back to where a stop string ended within a loop run that went further.

    Attributes:
        tokens: what the loop run chose up to there, to be forced again from its beginning.
        done: how many of them have been forced.
        last: the chunk to deliver when all have been.
    """

    tokens: NDArray[np.int64]
    done: int
    last: Chunk


class Course:
    """Where a request stands between its prompt's first symbol and its text's last.

    Args:
        request: what to do.
        start_id: of the symbol that texts begin after.

    Attributes:
        token: the last symbol, not yet consumed.
        done: symbols read or written by this request.
        keeps_prefixes: whether its prompt is read up to where states are kept.
    """

    def __init__(self, request: SequenceRequest, start_id: int) -> None:
        self.request = request
        self.token = start_id
        self.done = 0
        self.keeps_prefixes = False
        self._start = 0  # position of the request's first symbol
        self._prompt_length = len(request.prompt)
        self._end = self._prompt_length + request.max_new_symbols - request.held  # `done` then
        self._held_before = request.held
        self._uniforms = NO_UNIFORMS  # from `_uniforms_start` on
        self._uniforms_start = 0
        self._settling: Settling | None = None

    @property
    def position(self) -> int:
        """Position of the next symbol in the text; the start symbol has none."""
        return self._start + self.done

    @property
    def prompt_left(self) -> int:
        """How many prompt symbols are still to be read."""
        return max(self._prompt_length - self.done, 0)

    @property
    def left(self) -> int:
        """Maximum number of steps still to make."""
        if self._settling is not None:
            return len(self._settling.tokens) - self._settling.done
        return self._end - self.done

    @property
    def steps(self) -> int:
        """How many steps the next loop run may make for it."""
        if self.keeps_prefixes and self.done < self._prompt_length:
            return next_boundary(self.done, self._prompt_length) - self.done
        return self.left

    @property
    def generated(self) -> int:
        """How many symbols have been generated."""
        written = self.done - self._prompt_length
        return (written if written > 0 else 0) + self._held_before

    @property
    def has_written(self) -> bool:
        """Whether it has generated a symbol."""
        return self.done > self._prompt_length

    @property
    def known_left(self) -> int:
        """How many of the next symbols are already known."""
        return self.prompt_left if self._settling is None else self.left

    def forced(self, steps: int) -> NDArray[np.int64]:
        """Return what the next steps must choose, as far as it is known: (steps,) or fewer."""
        if self._settling is not None:
            return self._settling.tokens[self._settling.done :][:steps]
        return self.request.prompt[self.done : self.done + steps]

    def uniform(self, steps: int) -> NDArray[np.float32]:
        """Return the random numbers of the next steps, (steps,); a score needs none."""
        if not self.request.max_new_symbols:
            return np.zeros(steps, np.float32)
        position = self.position
        offset = position - self._uniforms_start
        if not 0 <= offset <= len(self._uniforms) - steps:
            rest_of_block = BLOCK - position % BLOCK
            self._uniforms = uniforms(self.request.seed, position, max(steps, rest_of_block))
            self._uniforms_start, offset = position, 0
        return self._uniforms[offset : offset + steps]

    def settle(self, token: int, tokens: NDArray[np.int64], last: Chunk) -> None:
        """Prepare to force a run's symbols again up to the text's end.

        Args:
            token: what the loop run began with.
            tokens: what it chose, up to the end.
            last: what to deliver then.
        """
        self.token = token
        self._settling = Settling(tokens=tokens.copy(), done=0, last=last)
