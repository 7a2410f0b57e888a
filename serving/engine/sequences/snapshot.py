"""A text stopped between two symbols: all that determines what comes next, as bytes."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import State
from serving.runtime.sampling import SamplingParams
from unroll.bundle.manifest import BATCH, StateTensor
from unroll.terms import STOP_LENGTH_AT_MOST

POSITION_LIMIT = 2**62
NO_LOG_PROBS = np.zeros(0, np.float32)

_SAMPLER = struct.Struct("<QfIff")  # seed, temperature, top_k, top_p, min_p
_SNAPSHOT = struct.Struct("<QII")  # position, token, number of held symbols
_HELD_SYMBOL = 8  # token id and log-probability


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerState:
    """How the symbols of a text are drawn: the seed and the parameters in force.

    Attributes:
        seed: in [0, 2^63).
        sampling: temperature and filters.
    """

    seed: int
    sampling: SamplingParams

    SIZE = _SAMPLER.size

    def pack(self) -> bytes:
        """Write it as 24 bytes: seed u64, temperature f32, top_k u32, top_p f32, min_p f32."""
        s = self.sampling
        return _SAMPLER.pack(self.seed, s.temperature, s.top_k, s.top_p, s.min_p)

    @classmethod
    def unpack(cls, data: memoryview) -> "SamplerState":
        """Read what `pack` wrote from the beginning of the data."""
        seed, temperature, top_k, top_p, min_p = _SAMPLER.unpack_from(data)
        sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        return cls(seed=seed, sampling=sampling)


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternPlace:
    """Where a text stands in its pattern.

    Attributes:
        pattern: in Python's syntax.
        state: of its automaton, after what was delivered.
        digest: of the automaton, 8 bytes.
    """

    pattern: str
    state: int
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Where a text stands.

    Attributes:
        position: of the next symbol, in symbols from the text's start.
        token: id of the last symbol, which the state has not consumed yet.
        state: the recurrent state as StateLayout packs it.
        held: ids of the symbols that were generated but not delivered because a stop string may
            begin with them, int32, (K,).
        held_log_probs: of the held symbols, (K,).
        place: where it stands in its pattern; None without one, or if that allows nothing more.
    """

    position: int
    token: int
    state: bytes
    held: NDArray[np.int32]
    held_log_probs: NDArray[np.float32]
    place: PatternPlace | None = None

    def pack(self) -> bytes:
        """Write it: position u64, token u32, K u32; K ids i32, K log-probabilities f32; state.

        Its place in a pattern is not in it.
        """
        return b"".join(
            (
                _SNAPSHOT.pack(self.position, self.token, len(self.held)),
                self.held.astype("<i4").tobytes(),
                self.held_log_probs.astype("<f4").tobytes(),
                self.state,
            )
        )

    @classmethod
    def unpack(cls, data: memoryview, state_size: int) -> tuple["Snapshot", int]:
        """Read what `pack` wrote from the beginning of the data; also return its length.

        Raises:
            ValueError: the data end too early.
        """
        if len(data) < _SNAPSHOT.size:
            raise ValueError("the data end within a snapshot")
        position, token, K = _SNAPSHOT.unpack_from(data)
        end = _SNAPSHOT.size + K * _HELD_SYMBOL + state_size
        if len(data) < end:
            raise ValueError("the data end within a snapshot")
        held = np.frombuffer(data, "<i4", K, _SNAPSHOT.size)
        log_probs = np.frombuffer(data, "<f4", K, _SNAPSHOT.size + 4 * K)
        snapshot = cls(
            position=position,
            token=token,
            state=bytes(data[end - state_size : end]),
            held=held.copy(),
            held_log_probs=log_probs.copy(),
        )
        return snapshot, end


class StateLayout:
    """Packs the recurrent state of one row: its tensors in the manifest's order, float32.

    Args:
        tensors: the manifest's state tensors.
        vocabulary_size: V.
    """

    def __init__(self, tensors: list[StateTensor], vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self._shapes = {
            tensor.input: tuple(int(size) for size in tensor.shape if size != BATCH)
            for tensor in tensors
        }
        self.size = sum(4 * int(np.prod(shape)) for shape in self._shapes.values())

    def check(self, snapshot: Snapshot) -> None:
        """Check a snapshot that comes from outside.

        Raises:
            ValueError: a token id is not in the vocabulary, the position is out of range, too many
                symbols are held, or the state has another size.
        """
        if len(snapshot.state) != self.size:
            raise ValueError(f"its state has {len(snapshot.state)} bytes instead of {self.size}")
        if len(snapshot.held) >= STOP_LENGTH_AT_MOST:
            raise ValueError(f"it holds {len(snapshot.held)} symbols, more than a stop string can")
        ids = np.append(snapshot.held, snapshot.token)
        if ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise ValueError("a token id is not in the vocabulary")
        if snapshot.position > POSITION_LIMIT:
            raise ValueError(f"its position {snapshot.position} is out of range")

    def pack(self, state: State) -> bytes:
        """Pack one row's tensors, each (layers, hidden)."""
        return b"".join([state[name].astype("<f4").tobytes() for name in self._shapes])

    def unpack(self, packed: bytes) -> State:
        """Unpack one row's tensors, each (layers, hidden)."""
        state, offset = {}, 0
        for name, shape in self._shapes.items():
            count = int(np.prod(shape))
            state[name] = np.frombuffer(packed, "<f4", count, offset).reshape(shape)
            offset += 4 * count
        return state
