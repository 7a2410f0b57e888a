"""Several workers: who runs a sequence changes nothing of it, and each has its fair share."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.bundle import Bundle, load_bundle
from serving.decoder import Decoder
from serving.engine import Engine
from serving.errors import CancelledError
from serving.runtime import Device
from serving.sequence import Sequence
from tests.core.harness import PATIENCE, Reader, alone, request, running, turn
from training.settings import Cell


def loads(engine: Engine) -> list[int]:
    """Count the sequences of each worker."""
    return [len(worker.slots) for worker in engine._workers]


def submit(engine: Engine, new: int, **others: object) -> tuple[Sequence, Reader]:
    """Submit a request of its own seed."""
    reader = Reader()
    asked = request(engine.bundle.vocabulary, "ab", new, seed=len(engine._scheduler), **others)
    return engine.submit(asked, reader), reader


def test_sequence_that_moved_goes_on_bit_for_bit(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, slots=5, workers=2)
    pairs = [submit(engine, 50) for _ in range(4)]
    assert turn(engine, 7, 0) == [pairs[0][0], pairs[1][0]]
    assert turn(engine, 3, 1) == [pairs[2][0], pairs[3][0]]
    for sequence, _ in pairs[2:]:
        engine.cancel(sequence)
    assert turn(engine, 3, 1) == []
    assert turn(engine, 5, 0) == [pairs[1][0]]
    assert turn(engine, 4, 1) == [pairs[0][0]]
    while turn(engine, 6, 0) or turn(engine, 9, 1):
        pass
    for sequence, reader in pairs[:2]:
        assert reader.wait() == alone(decoder, bundle.vocabulary, sequence.request)
    assert all(isinstance(reader.error, CancelledError) for _, reader in pairs[2:])


@pytest.mark.parametrize("count", [1, 3, 5])
def test_nothing_moves_where_no_worker_has_two_fewer(
    bundle: Bundle, decoder: Decoder, count: int
) -> None:
    engine = Engine(bundle, decoder, slots=5, workers=2)
    for _ in range(count):
        submit(engine, 50)
    first = [turn(engine, 2, worker) for worker in (0, 1)]
    assert [len(rows) for rows in first] == [count // 2 + 1, count // 2]
    for _ in range(5):
        assert [turn(engine, 2, worker) for worker in (0, 1)] == first


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_all_that_can_run_advance_and_are_shared_evenly(
    tiny_bundles: dict[Cell, Path], data: st.DataObject
) -> None:
    W, slots = 3, 4
    bundle = load_bundle(tiny_bundles["gru"])
    engine = Engine(bundle, Decoder(bundle, Device.CPU), slots=slots, workers=W)
    live: list[Sequence] = []
    for _ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.integers(0, W * slots - len(live)))):
            live.append(submit(engine, 10**6)[0])
        for worker in data.draw(st.lists(st.integers(0, W - 1), max_size=5)):
            turn(engine, 1, worker)
        for sequence in data.draw(
            st.lists(st.sampled_from(live), unique=True) if live else st.just([])
        ):
            engine.cancel(sequence)
            live.remove(sequence)
    before = {sequence: sequence.done for sequence in live}
    for _ in range(3):  # end, give back, take
        for worker in data.draw(st.permutations(range(W))):
            turn(engine, 1, worker)
    assert all(sequence.done > before[sequence] for sequence in live)
    assert sum(loads(engine)) == len(live)
    assert max(loads(engine)) - min(loads(engine)) <= 1


def test_threads_share_what_there_is(bundle: Bundle, decoder: Decoder) -> None:
    with running(Engine(bundle, decoder, slots=5, workers=2)) as engine:
        pairs = [submit(engine, 10**7) for _ in range(4)]
        until = time.monotonic() + PATIENCE
        while loads(engine) != [2, 2]:
            assert time.monotonic() < until
            time.sleep(0.001)
        left = engine._workers[1].slots.sequences
        for sequence in engine._workers[0].slots.sequences:
            engine.cancel(sequence)
        while loads(engine) != [1, 1]:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert {s for worker in engine._workers for s in worker.slots.sequences} == set(left)
        done = [reader for sequence, reader in pairs if sequence in left]
        assert not any(reader.ended.is_set() for reader in done)


def test_workers_hold_no_copy_of_each_others_states(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, slots=2, workers=2)
    submit(engine, 9)
    turn(engine, 3, 0)
    states = [worker.slots._runner.read(1) for worker in engine._workers]
    for name in states[0]:
        assert np.isnan(states[0][name]).all() or np.isnan(states[1][name]).all()
        assert not np.shares_memory(states[0][name], states[1][name])
