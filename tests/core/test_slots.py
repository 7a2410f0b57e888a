"""A slot holds its sequence's state and, when it is free, no number at all."""

import numpy as np

from serving.bundle import Bundle
from serving.decoder import Decoder
from serving.engine import Engine
from serving.scheduler import Slots
from serving.sequence import Sequence
from serving.snapshot import StateLayout
from tests.core.harness import Reader, request, slot_states, turn


def test_slots_hold_nan_before_a_sequence_and_after_it(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, slots=3)
    for tensor in slot_states(engine).values():
        assert np.isnan(tensor).all()
    engine.submit(request(bundle.vocabulary, "", 9), Reader())
    cancelled = engine.submit(request(bundle.vocabulary, "", 9), Reader())
    engine.submit(request(bundle.vocabulary, "", 9, buffer_symbols=3), Reader())
    turn(engine, 4)
    for tensor in slot_states(engine).values():
        assert np.isfinite(tensor).all()
    engine.cancel(cancelled)
    turn(engine, 1)
    for tensor in slot_states(engine).values():
        assert np.isfinite(tensor).all(axis=(0, 2)).sum() == 1
    turn(engine, 9)
    for tensor in slot_states(engine).values():
        assert np.isnan(tensor).all()


def test_slot_gives_back_the_state_that_it_was_given(bundle: Bundle, decoder: Decoder) -> None:
    slots, layout = Slots(decoder.zero_state(3)), StateLayout(bundle.manifest.state)
    random = np.random.default_rng(1)
    sequences = []
    for _ in range(3):
        one = Sequence(request(bundle.vocabulary, "", 1), bundle.vocabulary, layout, Reader())
        one.state = {
            name: random.random(zero[:, 0].shape, np.float32)
            for name, zero in decoder.zero_state(1).items()
        }
        sequences.append(one)
    given = [dict(one.state or {}) for one in sequences]
    for one in sequences:
        slots.admit(one)
    assert not slots.has_free
    rows = [sequences[2], sequences[0]]
    gathered = slots.gather(rows)
    slots.scatter(rows, {name: tensor + 1 for name, tensor in gathered.items()})
    for one in sequences:
        slots.release(one, keep_state=True)
    for one, before, added in zip(sequences, given, (1, 0, 1), strict=True):
        assert one.state is not None
        for name, tensor in before.items():
            np.testing.assert_array_equal(one.state[name], tensor + np.float32(added))
