"""Callers share queue and slots, however much one of them asks for."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.sequence import Sequence
from serving.engine.sequences.snapshot import StateLayout
from serving.engine.workers.queue import FairQueue
from serving.runtime.decoder import Decoder
from tests.serving.engine.harness import Reader, alone, request
from unroll.bundle.folder import Bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import OverloadedError

VOCABULARY = Vocabulary("\nabc", "\n")
GREEDY, MODEST, THIRD = b"greedy", b"modest", b"third"


def submit(engine: Engine, caller: bytes, count: int, symbols: int = 40) -> list[Reader]:
    readers = [Reader() for _ in range(count)]
    for seed, reader in enumerate(readers):
        asked = request(engine.bundle.vocabulary, "abc", symbols, seed=seed)
        engine.submit(replace(asked, caller=caller), reader)
    return readers


def sequence(caller: bytes) -> Sequence:
    asked = replace(request(VOCABULARY, "a", 1), caller=caller)
    return Sequence(asked, VOCABULARY, StateLayout([], len(VOCABULARY)), Reader())


def held(rows: list[Sequence]) -> Counter[bytes]:
    return Counter(row.request.caller for row in rows)


def test_modest_caller_gets_its_slots_at_once(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=8))
    submit(engine, GREEDY, 50)
    assert held(engine.step(steps=4)) == {GREEDY: 8}
    submit(engine, MODEST, 3)
    assert held(engine.step(steps=4)) == {GREEDY: 5, MODEST: 3}
    submit(engine, THIRD, 50)
    assert held(engine.step(steps=4)) == {GREEDY: 3, MODEST: 2, THIRD: 3} or held(
        engine.step(steps=4)
    ) == {
        GREEDY: 3,
        MODEST: 3,
        THIRD: 2,
    }


def test_slots_do_not_go_back_and_forth(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=3))
    submit(engine, GREEDY, 9)
    submit(engine, MODEST, 9)
    first = engine.step(steps=4)
    assert sorted(held(first).values()) == [1, 2]
    for _ in range(5):
        assert engine.step(steps=4) == first


def test_one_caller_alone_has_everything(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=8))
    submit(engine, GREEDY, 50)
    assert held(engine.step(steps=4)) == {GREEDY: 8}


def test_texts_do_not_change_by_it(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=4))
    asked = request(bundle.vocabulary, "abc", 40, seed=0)
    readers = submit(engine, GREEDY, 20)
    engine.step(steps=4)
    readers += submit(engine, MODEST, 3)
    while engine.step(steps=4):
        pass
    for seed, reader in enumerate([*readers[:20], *readers[20:]]):
        own = replace(asked, seed=seed if seed < 20 else seed - 20)
        assert reader.wait() == alone(decoder, bundle.vocabulary, own)


def test_full_queue_gives_a_place_to_a_caller_with_fewer(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=2, queue_limit=6))
    greedy = submit(engine, GREEDY, 6)
    with pytest.raises(OverloadedError):
        submit(engine, GREEDY, 1)
    modest = submit(engine, MODEST, 3)
    with pytest.raises(OverloadedError):
        submit(engine, MODEST, 1)
    while engine.step(steps=8):
        pass
    assert [type(reader.error) for reader in greedy] == [type(None)] * 3 + [OverloadedError] * 3
    assert [reader.error for reader in modest] == [None] * 3


def test_what_has_begun_is_not_thrown_out() -> None:
    queue = FairQueue()
    made = [sequence(GREEDY) for _ in range(4)]
    for each in made:
        queue.append(each)
    made[3].times.began = 1.0
    assert queue.youngest_of_greediest(MODEST) is made[2]
    for each in made:
        each.times.began = 1.0
    assert queue.youngest_of_greediest(MODEST) is None


@given(st.lists(st.tuples(st.sampled_from(["append", "first", "pop", "remove"]),
                          st.integers(0, 3)), max_size=40))  # fmt: skip
def test_queue_loses_and_doubles_nobody(acts: list[tuple[str, int]]) -> None:
    queue, inside, slots = FairQueue(), [], Counter[bytes]()
    for act, number in acts:
        if act in {"append", "first"}:
            made = sequence(bytes([number]))
            (queue.append if act == "append" else queue.append_first)(made)
            inside.append(made)
        elif inside:
            gone = queue.pop(slots) if act == "pop" else inside[number % len(inside)]
            if act == "remove":
                queue.remove(gone)
            else:
                waiting = {each.request.caller for each in inside}
                assert slots[gone.request.caller] == min(slots[caller] for caller in waiting)
                slots[gone.request.caller] += 1
            inside.remove(gone)
            assert gone not in queue
        assert len(queue) == len(inside)
        assert all(each in queue for each in inside)


@given(st.lists(st.sampled_from([GREEDY, MODEST]), max_size=20), st.integers(1, 5))
def test_some_taken_at_once_are_those_that_would_be_taken_one_by_one(
    callers: list[bytes], most: int
) -> None:
    sequences = [sequence(caller) for caller in callers]
    at_once, one_by_one = FairQueue(), FairQueue()
    for each in sequences:
        at_once.append(each)
        one_by_one.append(each)
    slots = Counter[bytes]()
    while len(at_once):
        some = at_once.pop_some(most, slots)
        assert 1 <= len(some) <= most
        for each in some:
            assert one_by_one.pop(slots) is each
            slots[each.request.caller] += 1
    assert len(one_by_one) == 0
