"""One worker's recurrent states, and the loop runs that advance them."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import Decoder, LoopRun, State
from serving.runtime.likeliest import Likeliest


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a loop run wrote.

    Attributes:
        tokens: the symbols that came, (T, N).
        log_probs: of each under the model, before temperature, (T, N).
        likeliest: of each row that asked.
        automata: the state of each row's automaton after each step, (T, N); None without automata.
    """

    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    likeliest: list[Likeliest] = field(default_factory=list)
    automata: NDArray[np.int64] | None = None


class Runner(Protocol):
    """Holds a state in each slot and makes loop runs on them; nothing else touches the device.

    One thread uses it at a time. A slot that was cleared, or never loaded, holds NaN.

    Attributes:
        capacity: how many slots there are, and rows of a loop run at most.
    """

    capacity: int

    def load(self, slot: int, state: State | None) -> None:
        """Put a row's state into a slot, each tensor (layers, hidden); None means zero."""

    def read(self, slot: int) -> State:
        """Copy a slot's state, each tensor (layers, hidden)."""

    def clear(self, slot: int) -> None:
        """Fill a slot with NaN, so that nobody can go on with its state unnoticed."""

    def run(self, slots: list[int], run: LoopRun) -> Written:
        """Make a loop run whose row i goes on with the state in slots[i]; keep their new states."""

    def warm_up(self) -> None:
        """Do on the thread that will make loop runs what its first ones would have to wait for."""


class HostRunner:
    """Keeps the states in the host's memory.

    Args:
        decoder: makes the loop runs; runners may share it.
        capacity: how many slots, 1 or more.
    """

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        self.capacity = capacity
        self._decoder = decoder
        self._all = list(range(capacity))
        self._state = decoder.zero_state(capacity)
        # What slots are to be filled with before the next loop run: all at once costs a tenth.
        self._fills = dict.fromkeys(self._all, np.nan)

    def load(self, slot: int, state: State | None) -> None:
        """Put a row's state into a slot, each tensor (layers, hidden); None means zero."""
        if state is None:
            self._fills[slot] = 0.0
            return
        self._fills.pop(slot, None)
        for name, tensor in self._state.items():
            tensor[:, slot] = state[name]

    def read(self, slot: int) -> State:
        """Copy a slot's state, each tensor (layers, hidden)."""
        self._fill()
        return {name: tensor[:, slot].copy() for name, tensor in self._state.items()}

    def clear(self, slot: int) -> None:
        """Fill a slot with NaN."""
        self._fills[slot] = np.nan

    def _fill(self) -> None:
        if self._fills:
            slots, values = list(self._fills), np.array(list(self._fills.values()), np.float32)
            for tensor in self._state.values():
                tensor[:, slots] = values[:, None]
            self._fills.clear()

    def run(self, slots: list[int], run: LoopRun) -> Written:
        """Make a loop run whose row i goes on with the state in slots[i]; keep their new states."""
        self._fill()
        if slots == self._all:
            result = self._decoder.run(run, self._state)
            self._state = result.state
        else:
            gathered = {name: tensor[:, slots] for name, tensor in self._state.items()}
            result = self._decoder.run(run, gathered)
            for name, tensor in self._state.items():
                tensor[:, slots] = result.state[name]
        return Written(
            tokens=result.tokens,
            log_probs=result.log_probs,
            likeliest=result.likeliest,
            automata=result.automata,
        )

    def warm_up(self) -> None:
        """Do nothing: the first loop run is like any other."""
