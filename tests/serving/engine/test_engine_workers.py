"""Several workers: who runs a sequence changes nothing of it, and each has its fair share."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.sequence import Sequence
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from tests.serving.engine.harness import (
    PATIENCE,
    Reader,
    alone,
    request,
    running,
    slot_states,
)
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.errors import CancelledError

SLOTS = 3


def loads(engine: Engine) -> list[int]:
    """Count the sequences of each worker."""
    return [len(slots) for slots in engine.slots]


def submit(engine: Engine, new: int, **others: object) -> tuple[Sequence, Reader]:
    """Submit a request of its own seed."""
    reader = Reader()
    asked = request(engine.bundle.vocabulary, "ab", new, seed=len(engine.sequences()), **others)
    return engine.submit(asked, reader), reader


def test_sequence_that_moved_goes_on_bit_for_bit(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=5, workers=2))
    pairs = [submit(engine, 50) for _ in range(4)]
    assert engine.step(0, steps=7) == [pairs[0][0], pairs[1][0]]
    assert engine.step(1, steps=3) == [pairs[2][0], pairs[3][0]]
    for sequence, _ in pairs[2:]:
        engine.cancel(sequence)
    assert engine.step(1, steps=3) == []
    assert engine.step(0, steps=5) == [pairs[1][0]]
    assert engine.step(1, steps=4) == [pairs[0][0]]
    while engine.step(0, steps=6) or engine.step(1, steps=9):
        pass
    for sequence, reader in pairs[:2]:
        assert reader.wait() == alone(decoder, bundle.vocabulary, sequence.request)
    assert all(isinstance(reader.error, CancelledError) for _, reader in pairs[2:])


def test_chunks_of_a_sequence_that_moved_come_in_order(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=9, workers=2))
    pairs = [submit(engine, 50) for _ in range(12)]
    assert [len(engine.step(0, steps=2)), len(engine.step(1, steps=2))] == [6, 6]
    for sequence, _ in pairs[6:]:
        engine.cancel(sequence)
    assert engine.step(1) == []
    giver = engine._workers[0]
    engine._turn(giver, 5)
    assert giver.outgoing, "what the run gave must wait for the next one, else this tests nothing"
    assert len(engine._await_rows(giver)) == 3
    assert len(engine.step(1, steps=4)) == 3
    engine._send(giver)
    while engine.step(0) or engine.step(1):
        pass
    for sequence, reader in pairs[:6]:
        assert reader.wait() == alone(decoder, bundle.vocabulary, sequence.request)


def test_end_of_a_cancelled_sequence_comes_after_its_chunks(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=9))
    pairs = [submit(engine, 50) for _ in range(6)]
    engine.step(steps=2)
    (worker,) = engine._workers
    engine._turn(worker, 5)
    assert worker.outgoing, "what the run gave must wait for the next one, else this tests nothing"
    sequence, reader = pairs[2]
    engine.cancel(sequence)
    assert len(engine._await_rows(worker)) == 5
    engine._send(worker)
    assert [chunk.is_last for chunk in reader.chunks] == [False, True]
    assert len(reader.outcome.text) == 5


@pytest.mark.parametrize("count", [1, 3, 5])
def test_nothing_moves_where_no_worker_has_two_fewer(
    bundle: Bundle, decoder: Decoder, count: int
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=5, workers=2))
    for _ in range(count):
        submit(engine, 50)
    first = [engine.step(worker, steps=2) for worker in (0, 1)]
    assert [len(rows) for rows in first] == [count // 2 + 1, count // 2]
    for _ in range(5):
        assert [engine.step(worker, steps=2) for worker in (0, 1)] == first


@pytest.fixture(scope="module")
def gru(tiny_bundles: dict[Cell, Path]) -> tuple[Bundle, Decoder]:
    bundle = load_bundle(tiny_bundles["gru"])
    return bundle, Decoder(bundle, Device.CPU)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_all_that_can_run_advance_and_are_shared_evenly(
    gru: tuple[Bundle, Decoder], data: st.DataObject
) -> None:
    W, slots = 3, 4
    engine = Engine(*gru, EngineOptions(slots=slots, workers=W))
    live: list[Sequence] = []
    for _ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.integers(0, W * slots - len(live)))):
            live.append(submit(engine, 10**6)[0])
        for worker in data.draw(st.lists(st.integers(0, W - 1), max_size=5)):
            engine.step(worker, steps=1)
        for sequence in data.draw(
            st.lists(st.sampled_from(live), unique=True) if live else st.just([])
        ):
            engine.cancel(sequence)
            live.remove(sequence)
    before = {sequence: sequence.done for sequence in live}
    for _ in range(3):  # end, give back, take
        for worker in data.draw(st.permutations(range(W))):
            engine.step(worker, steps=1)
    assert all(sequence.done > before[sequence] for sequence in live)
    assert sum(loads(engine)) == len(live)
    assert max(loads(engine)) - min(loads(engine)) <= 1


def test_threads_share_what_there_is(bundle: Bundle, decoder: Decoder) -> None:
    with running(Engine(bundle, decoder, EngineOptions(slots=5, workers=2))) as engine:
        pairs = [submit(engine, 10**7) for _ in range(4)]
        until = time.monotonic() + PATIENCE
        while loads(engine) != [2, 2]:
            assert time.monotonic() < until
            time.sleep(0.001)
        left = engine.slots[1].sequences
        for sequence in engine.slots[0].sequences:
            engine.cancel(sequence)
        while loads(engine) != [1, 1]:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert {s for slots in engine.slots for s in slots.sequences} == set(left)
        done = [reader for sequence, reader in pairs if sequence in left]
        assert not any(reader.ended.is_set() for reader in done)


def assert_each_state_is_in_one_place(engine: Engine) -> None:
    """Find a state in every slot that is held, none in the others, and else with its sequence."""
    held: set[Sequence] = set()
    for number, slots in enumerate(engine.slots):
        sequences = slots.sequences
        assert held.isdisjoint(sequences)
        held.update(sequences)
        for tensor in slot_states(engine, number).values():
            assert np.isfinite(tensor).all(axis=(0, 2)).sum() == len(sequences)
            assert np.isnan(tensor).all(axis=(0, 2)).sum() == SLOTS - len(sequences)
    for sequence in engine.sequences():
        assert (sequence.state is None) == (sequence in held or sequence.done == 0)


def test_state_moves_with_its_sequence_and_stays_nowhere_else(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=SLOTS, workers=2))
    pairs = [submit(engine, 60, buffer_symbols=8 if n == 1 else None) for n in range(4)]
    first, slow, *others = [sequence for sequence, _ in pairs]
    for worker, steps, cancelled, expected in [
        (0, 3, [], [first, slow]),
        (1, 3, others, others),
        (1, 3, [], []),
        (0, 7, [], [slow]),  # it gives the first one up, and its reader does not follow
        (1, 3, [], [first]),
        (0, 3, [], []),
        (1, 3, [], [first]),
    ]:
        assert engine.step(worker, steps=steps) == expected
        assert_each_state_is_in_one_place(engine)
        for sequence in cancelled:
            engine.cancel(sequence)
    engine.mark_read(slow, slow.unread)
    assert engine.step(0, steps=3) == [slow]
    assert_each_state_is_in_one_place(engine)


def test_sequence_given_up_goes_on_before_one_that_never_ran(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=SLOTS, workers=2))
    sequences = [submit(engine, 60)[0] for _ in range(2 * SLOTS)]
    assert engine.step(0, steps=3) == sequences[:SLOTS]
    assert engine.step(1, steps=3) == sequences[SLOTS:]
    for sequence in sequences[SLOTS:]:
        engine.cancel(sequence)
    assert engine.step(1, steps=3) == []
    late, _ = submit(engine, 60)
    assert engine.step(0, steps=3) == sequences[1:SLOTS]
    assert engine.step(1, steps=3) == [sequences[0], late]


def test_full_workers_let_the_others_wait(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=SLOTS, workers=2))
    pairs = [submit(engine, 20 + n) for n in range(3 * SLOTS)]
    first = [engine.step(worker, steps=4) for worker in (0, 1)]
    assert first == [[s for s, _ in pairs[:SLOTS]], [s for s, _ in pairs[SLOTS : 2 * SLOTS]]]
    assert_each_state_is_in_one_place(engine)
    while engine.step(0, steps=5) or engine.step(1, steps=5):
        assert_each_state_is_in_one_place(engine)
    for sequence, reader in pairs:
        assert reader.wait() == alone(decoder, bundle.vocabulary, sequence.request)


def test_sequence_whose_reader_is_back_goes_on_before_one_that_never_ran(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=1))
    slow, _ = submit(engine, 60, buffer_symbols=1)
    assert engine.step(steps=3) == [slow]
    assert engine.step(steps=3) == []
    submit(engine, 60)
    engine.mark_read(slow, slow.unread)
    assert engine.step(steps=3) == [slow]
