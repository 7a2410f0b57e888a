"""A slot holds its sequence's state and, when it is free, no number at all."""

import numpy as np

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.sequence import Sequence
from serving.engine.sequences.snapshot import StateLayout
from serving.engine.workers.slots import Slots
from serving.runtime.decoder import Decoder
from serving.runtime.host import HostRunner
from tests.serving.engine.harness import Reader, request, slot_states
from tests.serving.runtime.runs import PLAIN, random_run
from unroll.bundle.folder import Bundle


def test_slots_hold_nan_before_a_sequence_and_after_it(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=3))
    for tensor in slot_states(engine).values():
        assert np.isnan(tensor).all()
    engine.submit(request(bundle.vocabulary, "", 9), Reader())
    cancelled = engine.submit(request(bundle.vocabulary, "", 9), Reader())
    stalled = engine.submit(request(bundle.vocabulary, "", 9, buffer_symbols=3), Reader())
    engine.step(steps=2)
    for tensor in slot_states(engine).values():
        assert np.isfinite(tensor).all()
    engine.step(steps=2)
    assert stalled.is_stalled
    for tensor in slot_states(engine).values():
        assert np.isfinite(tensor).all(axis=(0, 2)).sum() == 2
    engine.cancel(cancelled)
    engine.step(steps=1)
    for tensor in slot_states(engine).values():
        assert np.isfinite(tensor).all(axis=(0, 2)).sum() == 1
    engine.step(steps=9)
    for tensor in slot_states(engine).values():
        assert np.isnan(tensor).all()


def test_slot_gives_back_the_state_that_it_was_given(bundle: Bundle, decoder: Decoder) -> None:
    slots, layout = (
        Slots(HostRunner(decoder, 3)),
        StateLayout(bundle.manifest.state, len(bundle.vocabulary)),
    )
    _, states = random_run(decoder, len(bundle.vocabulary), 1, PLAIN[:3])
    sequences = []
    for row in range(3):
        one = Sequence(request(bundle.vocabulary, "", 1), bundle.vocabulary, layout, Reader())
        one.state = {name: tensor[:, row] for name, tensor in states.items()}
        sequences.append(one)
        slots.admit([one])
    assert not slots.free
    for row in (1, 0, 2):
        slots.release(sequences[row], keep_state=True)
        for name, tensor in states.items():
            np.testing.assert_array_equal((sequences[row].state or {})[name], tensor[:, row])


def test_runner_advances_the_states_of_the_calls_rows_and_no_other(
    bundle: Bundle, decoder: Decoder
) -> None:
    call, states = random_run(decoder, len(bundle.vocabulary), 5, PLAIN[:2])
    runner = HostRunner(decoder, 4)
    slots = [3, 1]
    for row, slot in enumerate(slots):
        runner.load(slot, {name: tensor[:, row] for name, tensor in states.items()})
    runner.load(0, None)
    written, expected = runner.run(slots, call), decoder.run(call, states)
    np.testing.assert_array_equal(written.tokens, expected.tokens)
    np.testing.assert_array_equal(written.log_probs, expected.log_probs)
    for name, tensor in expected.state.items():
        for row, slot in enumerate(slots):
            np.testing.assert_array_equal(runner.read(slot)[name], tensor[:, row])
        assert not runner.read(0)[name].any()
        assert np.isnan(runner.read(2)[name]).all()
    runner.clear(3)
    assert all(np.isnan(tensor).all() for tensor in runner.read(3).values())
