"""What is kept of a text between requests, and how it is written down.

    seed u64, temperature f32, top_k u32, top_p f32, min_p f32
    position u64, token u32, number of held symbols K u32
    K ids i32, K log-probabilities f32
    state: the manifest's state tensors in order, f32, each (layers, hidden)

and, of a text with biases or in a pattern:

    number of biases B u32; B times token id u32, bias f32
    length of the pattern P u32; P bytes of UTF-8
    where there is one: its automaton's state u32, 8 bytes of the automaton's digest
"""

import math
import struct
from dataclasses import dataclass, replace

from serving.engine.sequences.snapshot import PatternPlace, SamplerState, Snapshot, StateLayout
from unroll.terms import BIASES_AT_MOST

_COUNT = struct.Struct("<I")
_BIAS = struct.Struct("<If")
_PLACE = struct.Struct("<I8s")
PATTERN_AT_MOST = 2**15  # bytes; what a schema becomes is longer than patterns that callers give
CONSTRAINTS_AT_MOST = 2 * _COUNT.size + _BIAS.size * BIASES_AT_MOST + PATTERN_AT_MOST + _PLACE.size


@dataclass(frozen=True, kw_only=True)
class CapsuleContents:
    """What a capsule holds.

    Attributes:
        sampler: seed and sampling parameters in force.
        snapshot: where the text stands.
    """

    sampler: SamplerState
    snapshot: Snapshot

    @property
    def is_free(self) -> bool:
        """Whether it has neither biases nor a pattern."""
        return not self.sampler.sampling.logit_bias and self.snapshot.place is None

    def pack(self, *, with_constraints: bool) -> bytes:
        """Write it down, with what says which symbols may come or without."""
        free = self.sampler.pack() + self.snapshot.pack()
        return free + self._pack_constraints() if with_constraints else free

    def _pack_constraints(self) -> bytes:
        biases, place = self.sampler.sampling.logit_bias, self.snapshot.place
        pattern = b"" if place is None else place.pattern.encode()
        parts = [_COUNT.pack(len(biases)), *(_BIAS.pack(*each) for each in biases)]
        parts += [_COUNT.pack(len(pattern)), pattern]
        if place is not None:
            parts.append(_PLACE.pack(place.state, place.digest))
        return b"".join(parts)

    @classmethod
    def unpack(
        cls, data: memoryview, layout: StateLayout, *, with_constraints: bool
    ) -> tuple["CapsuleContents", int]:
        """Read what `pack` wrote from the beginning of the data; also return its length.

        Raises:
            ValueError: it is damaged.
            InputError: a sampling parameter is out of its range.
        """
        sampler = SamplerState.unpack(data)
        snapshot, length = Snapshot.unpack(data[SamplerState.SIZE :], layout.size)
        layout.check(snapshot)
        contents, length = cls(sampler=sampler, snapshot=snapshot), SamplerState.SIZE + length
        if not with_constraints:
            return contents, length
        return contents._with_constraints(data, length, layout.vocabulary_size)

    def _with_constraints(
        self, data: memoryview, offset: int, symbols: int
    ) -> tuple["CapsuleContents", int]:
        try:
            (count,) = _COUNT.unpack_from(data, offset)
            offset += _COUNT.size
            end = offset + count * _BIAS.size
            biases = tuple(_BIAS.iter_unpack(data[offset:end]))
            (length,) = _COUNT.unpack_from(data, end)
            offset = end + _COUNT.size
            pattern = bytes(data[offset : offset + length]).decode()
            offset += length
            place = None
            if pattern:
                state, digest = _PLACE.unpack_from(data, offset)
                place = PatternPlace(pattern=pattern, state=state, digest=digest)
                offset += _PLACE.size
        except struct.error as error:
            raise ValueError("the data end within its constraints") from error
        ids = [token for token, _ in biases]
        if ids != sorted(set(ids)) or (ids and ids[-1] >= symbols):
            raise ValueError("a token id of its biases is not in the vocabulary, or out of order")
        if any(math.isnan(bias) for _, bias in biases):
            raise ValueError("a bias is not a number")
        sampling = replace(self.sampler.sampling, logit_bias=biases)
        sampler, snapshot = (
            replace(self.sampler, sampling=sampling),
            replace(self.snapshot, place=place),
        )
        return CapsuleContents(sampler=sampler, snapshot=snapshot), offset
