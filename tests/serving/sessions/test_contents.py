"""Biases and places in patterns come out of capsules as they went in; free texts' are as before."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.sequences.snapshot import PatternPlace, SamplerState, Snapshot
from serving.runtime.sampling import SamplingParams
from serving.sessions.contents import CONSTRAINTS_AT_MOST, CapsuleContents
from tests.serving.sessions.test_capsule import ANNA, LAYOUT, V, codec, contents, resigned
from unroll.errors import CapsuleError
from unroll.terms import BIASES_AT_MOST

biases = st.dictionaries(
    st.integers(0, V - 1), st.one_of(st.just(-np.inf), st.floats(-100, 100, width=32))
).map(lambda found: tuple(sorted(found.items())))
places = st.none() | st.builds(
    PatternPlace,
    pattern=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    state=st.integers(0, 4096),
    digest=st.binary(min_size=8, max_size=8),
)


def constrained(bias: tuple[tuple[int, float], ...], place: PatternPlace | None) -> CapsuleContents:
    one = contents()
    sampling = SamplingParams(temperature=0.5, top_k=7, logit_bias=bias)
    snapshot = Snapshot(
        position=one.snapshot.position,
        token=one.snapshot.token,
        state=one.snapshot.state,
        held=one.snapshot.held,
        held_log_probs=one.snapshot.held_log_probs,
        place=place,
    )
    return CapsuleContents(sampler=SamplerState(seed=7, sampling=sampling), snapshot=snapshot)


@given(bias=biases, place=places)
def test_what_goes_in_comes_out(
    bias: tuple[tuple[int, float], ...], place: PatternPlace | None
) -> None:
    capsule = codec().seal(constrained(bias, place), ANNA)
    opened = codec().open(capsule, ANNA)
    assert opened.sampler.sampling.logit_bias == bias
    assert opened.snapshot.place == place
    assert codec().seal(opened, ANNA) == capsule
    assert capsule[4] == (2 if bias or place else 1)


def test_capsule_of_a_free_text_is_of_version_1_without_another_byte() -> None:
    free = contents()
    capsule = codec().seal(free, ANNA)
    assert capsule[4:8] == bytes([1, 0, 0, 0])
    assert capsule[64:-32] == free.sampler.pack() + free.snapshot.pack()


@settings(max_examples=200)
@given(data=st.data())
def test_cut_or_altered_constraints_are_refused_or_read_as_they_are(data: st.DataObject) -> None:
    place = PatternPlace(pattern="a*bé", state=3, digest=bytes(8))
    body = bytearray(codec().seal(constrained(((1, 2.0), (4, -np.inf)), place), ANNA)[:-32])
    begin = len(body) - len(constrained((), None)._pack_constraints()) - 40
    at = data.draw(st.integers(begin, len(body) - 1))
    if data.draw(st.booleans()):
        del body[at:]
    else:
        body[at] = data.draw(st.integers(0, 255))
    try:
        opened = codec().open(resigned(bytes(body)), ANNA)
    except CapsuleError:
        return
    assert opened.pack(with_constraints=True) == bytes(body[64:])


@pytest.mark.parametrize(
    ("bias", "problem"),
    [
        (((4, 1.0), (1, 2.0)), "out of order"),
        (((1, 1.0), (1, 2.0)), "out of order"),
        (((V, 1.0),), "not in the vocabulary"),
        (((1, 101.0),), "must be between -100 and 100"),
        (((1, float("nan")),), "is not a number"),
    ],
)
def test_biases_that_no_request_has_are_refused(
    bias: tuple[tuple[int, float], ...], problem: str
) -> None:
    body = codec().seal(constrained(((1, 2.0),), None), ANNA)[: -32 - 16]
    packed = struct.pack("<I", len(bias)) + b"".join(struct.pack("<If", *each) for each in bias)
    with pytest.raises(CapsuleError, match=problem):
        codec().open(resigned(body + packed + bytes(4)), ANNA)


def test_largest_constraints_fit() -> None:
    assert CONSTRAINTS_AT_MOST >= 4 + 8 * BIASES_AT_MOST + 4 + 2**15 + 12
    place = PatternPlace(pattern="a" * 2**15, state=1, digest=bytes(8))
    assert len(codec().seal(constrained((), place), ANNA)) <= codec().size_limit
    assert LAYOUT.vocabulary_size == V
