"""The engine: many at a time, each as if it were alone."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import SequenceRequest
from serving.runtime.decoder import Decoder
from serving.runtime.sampling import SamplingParams
from tests.serving.engine.harness import PATIENCE, Outcome, Reader, alone, request, running
from tests.serving.runtime.runs import FILTERED, PLAIN
from unroll.bundle.folder import Bundle
from unroll.errors import InputError, OverloadedError
from unroll.terms import Capsules, FinishReason


def requests(bundle: Bundle) -> list[SequenceRequest]:
    """Make requests that read, write, score and stop, of many lengths and parameters."""
    texts = ["", "a", "abc\n£", "bad cab fed a hag " * 9]
    return [
        request(
            bundle.vocabulary,
            texts[i % 4],
            (0, 1, 7, 90, 200)[i % 5] or int(i % 4 == 0),
            seed=i * 10**15,
            sampling=(PLAIN + FILTERED)[i % 9],
            stop=((), ("d",), ("fe", "gaf", "bb"))[i % 3],
        )
        for i in range(60)
    ]


@pytest.fixture(scope="module")
def own(bundle: Bundle, decoder: Decoder) -> list[Outcome]:
    """What each of the requests comes to alone."""
    return [alone(decoder, bundle.vocabulary, one) for one in requests(bundle)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_text_beside_others_is_the_text_alone(
    bundle: Bundle, decoder: Decoder, own: list[Outcome], workers: int
) -> None:
    asked = requests(bundle)
    assert {FinishReason.STOP, FinishReason.LENGTH} == {one.finish for one in own}
    with running(Engine(bundle, decoder, EngineOptions(slots=7, workers=workers))) as engine:
        readers = [Reader() for _ in asked]
        for one, reader in zip(asked, readers, strict=True):
            engine.submit(one, reader)
        outcomes = [reader.wait() for reader in readers]
    assert outcomes == own


@pytest.mark.parametrize("steps", [1, 5, 64])
def test_text_does_not_depend_on_the_length_of_loop_runs(
    bundle: Bundle, decoder: Decoder, own: list[Outcome], steps: int
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=3))
    asked = requests(bundle)[:15]
    readers = [Reader() for _ in asked]
    for one, reader in zip(asked, readers, strict=True):
        engine.submit(one, reader)
    while engine.step(steps=steps):
        pass
    assert [reader.wait() for reader in readers] == own[:15]


def test_prefill_decode_and_score_share_a_loop_run(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=3))
    kinds = [("abc" * 20, 5), ("", 30), ("fed", 0)]
    sequences = [engine.submit(request(bundle.vocabulary, *kind), Reader()) for kind in kinds]
    assert engine.step(steps=3) == sequences


def test_full_queue_refuses_and_takes_again_once_there_is_room(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=1, queue_limit=2))
    one = request(bundle.vocabulary, "", 5)
    for _ in range(2):
        engine.submit(one, Reader())
    with pytest.raises(OverloadedError, match="limit is 2"):
        engine.submit(one, Reader())
    engine.step(steps=1)
    engine.submit(one, Reader())


def test_stalled_reader_pauses_only_itself_and_loses_nothing(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=1))
    slow, quick = Reader(), Reader()
    slow_request = request(bundle.vocabulary, "ab", 40, seed=4, buffer_symbols=5)
    quick_request = request(bundle.vocabulary, "", 30, seed=5)
    sequence = engine.submit(slow_request, slow)
    engine.step(steps=4)
    engine.submit(quick_request, quick)
    while engine.step(steps=4):
        pass
    assert quick.wait() == alone(decoder, bundle.vocabulary, quick_request)
    assert len(slow.outcome.text) == 6
    turns = 0
    while not slow.ended.is_set():
        assert engine.step(steps=4) == []
        engine.mark_read(sequence, sequence.unread - 4)
        assert engine.step(steps=4) == [sequence]
        turns += 1
        assert turns < 40
    assert slow.wait() == alone(decoder, bundle.vocabulary, slow_request)


def test_slow_readers_of_a_running_engine_get_all_of_their_texts(
    bundle: Bundle, decoder: Decoder
) -> None:
    asked = [request(bundle.vocabulary, "", 60, seed=i, buffer_symbols=i) for i in range(1, 9)]
    with running(Engine(bundle, decoder, EngineOptions(slots=2, workers=2))) as engine:
        readers = [Reader() for _ in asked]
        sequences = [engine.submit(one, r) for one, r in zip(asked, readers, strict=True)]
        until = time.monotonic() + PATIENCE
        while not all(reader.ended.is_set() for reader in readers):
            assert time.monotonic() < until
            for sequence in sequences:
                engine.mark_read(sequence, sequence.unread)
    assert [r.outcome for r in readers] == [alone(decoder, bundle.vocabulary, a) for a in asked]


@pytest.mark.parametrize("ids", [[-1], [0, 11], [2**62]])
def test_prompt_of_another_vocabulary_is_refused_and_harms_nobody(
    bundle: Bundle, decoder: Decoder, ids: list[int]
) -> None:
    asked = request(bundle.vocabulary, "abc", 50)
    assert len(bundle.vocabulary) == 11
    with running(Engine(bundle, decoder)) as engine:
        with pytest.raises(InputError, match=r"prompt: token ids must be in \[0, 11\), got"):
            engine.submit(replace(asked, prompt=np.array(ids)), Reader())
        reader = Reader()
        engine.submit(asked, reader)
        assert reader.wait() == alone(decoder, bundle.vocabulary, asked)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"token": 11}, "a token id is not in the vocabulary"),
        ({"held": np.array([-1], np.int32)}, "a token id is not in the vocabulary"),
        ({"position": 2**63}, "its position .* is out of range"),
        ({"state": b"\0" * 8}, "its state has 8 bytes instead of"),
        ({"state": None}, "a number of its state is not finite"),
    ],
)
def test_origin_of_no_text_of_the_model_is_refused(
    bundle: Bundle, decoder: Decoder, change: dict[str, Any], problem: str
) -> None:
    engine = Engine(bundle, decoder)
    reader = Reader()
    engine.submit(request(bundle.vocabulary, "ab", 5, snapshots=Capsules.FINAL), reader)
    engine.step(steps=9)
    origin = reader.chunks[-1].snapshot
    assert origin is not None
    if change == {"state": None}:
        change = {"state": np.full(engine.layout.size // 4, np.nan, "<f4").tobytes()}
    with pytest.raises(InputError, match=f"origin: is no place .*: {problem}"):
        engine.submit(request(bundle.vocabulary, "", 9, origin=replace(origin, **change)), Reader())


def test_narrowest_filters_do_not_bring_the_engine_down(bundle: Bundle, decoder: Decoder) -> None:
    narrow = SamplingParams(top_k=1, top_p=1e-45, min_p=1)
    asked = request(bundle.vocabulary, "a", 20, sampling=narrow)
    greedy = request(bundle.vocabulary, "a", 20, sampling=SamplingParams(temperature=0))
    with running(Engine(bundle, decoder)) as engine:
        reader = Reader()
        engine.submit(asked, reader)
        assert reader.wait() == alone(decoder, bundle.vocabulary, greedy)


def test_steps_after_the_end_of_a_text_are_counted_as_wasted(
    bundle: Bundle, decoder: Decoder
) -> None:
    steps, stop = 64, "d"
    asked = [
        request(bundle.vocabulary, "abc", 4, seed=1),
        request(bundle.vocabulary, "", 90, seed=2, stop=(stop,)),
        request(bundle.vocabulary, "bad", 0),
        request(bundle.vocabulary, "", 90, seed=3),
    ]
    stopped = alone(decoder, bundle.vocabulary, asked[1])
    assert stopped.finish is FinishReason.STOP
    assert 1 < stopped.generated < steps
    engine = Engine(bundle, decoder)
    for one in asked:
        engine.submit(one, Reader())
    engine.step(steps=steps)
    registry = engine.counts.registry
    assert registry.get_sample_value("unroll_row_steps_total") == len(asked) * steps
    wasted = (steps - 7) + (steps - stopped.generated) + (steps - 3)
    assert registry.get_sample_value("unroll_row_steps_wasted_total") == wasted
