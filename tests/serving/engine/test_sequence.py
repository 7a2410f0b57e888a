"""A request is within its ranges, and its text is gathered without losing any of it."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.rows.lines import WIDTH
from serving.engine.rows.pacing import LONGEST_RUN
from serving.engine.rows.row import AHEAD
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.sequence import Sequence
from serving.engine.sequences.snapshot import StateLayout
from serving.runtime.decoder import Decoder
from tests.conftest import TINY_SYMBOLS
from tests.serving.engine.harness import PATIENCE, Outcome, Reader, alone, request
from unroll.bundle.folder import Bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CancelledError, ClosedError, DeadlineError, EngineError, InputError
from unroll.terms import Capsules, FinishReason

VOCABULARY = Vocabulary(TINY_SYMBOLS, "\n")
SEED = 11
FINAL, EVERY_CHUNK = Capsules.FINAL, Capsules.EVERY_CHUNK


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_new_symbols", {"max_new_symbols": 0}),
        ("max_new_symbols", {"max_new_symbols": -1}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("stop", {"stop": ("a",) * 10}),
        ("stop[1]", {"stop": ("a", "")}),
        ("stop[0]", {"stop": ("a" * 257,)}),
        ("buffer_symbols", {"buffer_symbols": 0}),
    ],
)
def test_request_out_of_its_range_is_refused_by_field(
    field: str, values: dict[str, object]
) -> None:
    prompt = np.zeros(0, np.int64)
    with pytest.raises(InputError) as caught:
        SequenceRequest(**({"prompt": prompt, "max_new_symbols": 1} | values))  # type: ignore[arg-type]
    assert caught.value.field == field


def taken(
    asked: SequenceRequest, text: str, cuts: list[int], times: list[float], patience: float = 0.0
) -> list[tuple[float, Chunk]]:
    """Let a sequence choose a text in runs of so many steps; return its chunks and their times."""
    sequence = Sequence(asked, VOCABULARY, StateLayout([], len(VOCABULARY)), Reader())
    ids, chunks = VOCABULARY.encode(text).tolist(), []
    log_probs = -np.arange(1, len(text) + 1, dtype=np.float32)
    begin = 0
    for steps, now in zip(cuts, times, strict=True):
        made = slice(begin, min(begin + steps, len(text)))
        count = made.stop - made.start
        chunk = sequence.take(ids[made], text[made], log_probs[made], count, now, patience)
        begin = made.stop
        if chunk is not None:
            chunks.append((now, chunk))
        if begin == len(text) or (chunk is not None and chunk.is_last):
            break
    return chunks


def outcome(chunks: list[tuple[float, Chunk]]) -> Outcome:
    """Join chunks."""
    reader = Reader()
    for _, chunk in chunks:
        reader(chunk)
    return reader.outcome


def test_first_symbols_go_at_once_and_the_rest_when_it_is_due() -> None:
    asked = request(VOCABULARY, "", 9, chunk_seconds=2.0)
    times = [5.0, 5.0, 7.0, 7.25, 8.75, 9.0, 9.5, 10.0, 10.5]
    chunks = taken(asked, "abcdefgha", [1] * 9, times)
    assert [(now, chunk.text) for now, chunk in chunks] == [
        (5.0, "a"), (7.0, "bc"), (9.0, "def"), (10.5, "gha")
    ]  # fmt: skip
    assert [chunk.log_probs.tolist() for _, chunk in chunks] == [
        [-1], [-2, -3], [-4, -5, -6], [-7, -8, -9]
    ]  # fmt: skip
    assert [chunk.generated for _, chunk in chunks] == [1, 3, 6, 9]
    assert [chunk.position for _, chunk in chunks] == [1, 3, 6, 9]
    assert [chunk.finish for _, chunk in chunks] == [None, None, None, FinishReason.LENGTH]


def test_longer_of_two_patiences_counts() -> None:
    for own, workers in ((2.0, 0.5), (0.5, 2.0)):
        asked = request(VOCABULARY, "", 4, chunk_seconds=own)
        chunks = taken(asked, "abcd", [1] * 4, [5.0, 7.0, 8.5, 9.0], workers)
        assert [chunk.text for _, chunk in chunks] == ["a", "b", "cd"]


def test_texts_that_begin_together_go_out_at_different_times() -> None:
    times = [i / 32 for i in range(33)]
    asked = request(VOCABULARY, "", 99, chunk_seconds=1.0)
    seconds = [taken(asked, "ab" * 20, [1] * 33, times)[1][0] for _ in range(8)]
    assert len(set(seconds)) == 8
    assert max(seconds) - min(seconds) > 0.5


@given(
    text=st.text("abc £", min_size=1, max_size=60),
    runs=st.lists(st.tuples(st.integers(1, 9), st.floats(0, 3)), min_size=60, max_size=60),
    chunk_seconds=st.sampled_from([0.0, 0.7, 5.0, inf]),
    stop=st.lists(st.text("abc £", min_size=1, max_size=4), max_size=3).map(tuple),
    scored=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_gathering_changes_when_text_goes_out_and_nothing_else(
    text: str,
    runs: list[tuple[int, float]],
    chunk_seconds: float,
    stop: tuple[str, ...],
    scored: bool,
) -> None:
    asked = request(VOCABULARY, text if scored else "", 0 if scored else len(text), stop=stop)
    steps = [count for count, _ in runs]
    times = list(itertools.accumulate(pause for _, pause in runs))
    plain = taken(asked, text, steps, times)
    gathered = taken(replace(asked, chunk_seconds=chunk_seconds), text, steps, times)
    assert outcome(gathered) == outcome(plain)
    assert gathered[-1][1].position == plain[-1][1].position
    if chunk_seconds == inf:
        assert len(gathered) == 1
    else:
        assert gathered[0][0] == plain[0][0]
        assert gathered[0][1].text == plain[0][1].text
    for (before, _), (now, chunk) in itertools.pairwise(gathered[1:]):
        assert chunk.is_last or now - before >= chunk_seconds * 0.999


def cancelled(engine: Engine, sequence: Sequence) -> None:
    engine.cancel(sequence)
    engine.step()


def late(engine: Engine, sequence: Sequence) -> None:
    past = time.monotonic() - 1
    object.__setattr__(sequence.request, "deadline", past)
    engine.submit(replace(sequence.request, deadline=past), Reader())  # so that somebody looks
    engine.step()


def closed(engine: Engine, sequence: Sequence) -> None:
    engine.close()


@pytest.mark.parametrize(
    ("end", "error"),
    [(cancelled, CancelledError), (late, DeadlineError), (closed, ClosedError)],
)
def test_what_was_gathered_comes_with_the_failure(
    bundle: Bundle,
    decoder: Decoder,
    end: Callable[[Engine, Sequence], None],
    error: type[EngineError],
) -> None:
    engine, reader = Engine(bundle, decoder, EngineOptions(slots=2)), Reader()
    asked = request(bundle.vocabulary, "ab", 50, seed=SEED, chunk_seconds=1e9, deadline=1e12)
    sequence = engine.submit(asked, reader)
    for _ in range(4):
        engine.step(steps=3)
    assert len(reader.outcome.text) == 1
    end(engine, sequence)
    assert isinstance(reader.error, error)
    own = alone(decoder, bundle.vocabulary, asked)
    assert reader.wait() == Outcome(own.text[:10], own.log_probs[:10], None, 10)
    assert [len(chunk.text) for chunk in reader.chunks] == [1, 9]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_gathered_is_not_lost_in_a_drain(
    bundle: Bundle, decoder: Decoder, workers: int
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=2, workers=workers))
    asked = [
        request(bundle.vocabulary, "ab", 50, seed=seed, chunk_seconds=inf) for seed in range(5)
    ]
    readers = [Reader() for _ in asked]
    for one, reader in zip(asked, readers, strict=True):
        engine.submit(one, reader)
    for worker in range(workers):
        engine.step(worker, steps=7)
    engine.start()
    engine.close(drain_seconds=PATIENCE)
    assert [r.wait() for r in readers] == [alone(decoder, bundle.vocabulary, a) for a in asked]
    assert [len(reader.chunks) for reader in readers] == [1] * 5


@pytest.mark.parametrize("snapshots", Capsules)
@pytest.mark.parametrize("steps", [1, 3, 64])
@pytest.mark.parametrize("slots", [1, 2])  # all taken, or not
def test_stop_string_ends_what_was_gathered_where_it_begins(
    bundle: Bundle, decoder: Decoder, slots: int, steps: int, snapshots: Capsules
) -> None:
    engine, reader = Engine(bundle, decoder, EngineOptions(slots=slots)), Reader()
    free = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, "", 90, seed=SEED))
    asked = request(
        bundle.vocabulary, "", 90, seed=SEED, stop=(free.text[30:34],), chunk_seconds=inf,
        snapshots=snapshots,
    )  # fmt: skip
    engine.submit(asked, reader)
    while engine.step(steps=steps):
        pass
    own = alone(decoder, bundle.vocabulary, asked)
    assert own.finish is FinishReason.STOP
    assert reader.wait() == own
    assert len(reader.chunks) == 1
    if snapshots is not Capsules.NEVER:
        left = 90 - own.generated
        assert rest(engine, reader.chunks[-1], left).text == free.text[own.generated :]


@pytest.mark.parametrize("steps", [23, LONGEST_RUN])
@pytest.mark.parametrize("new", [AHEAD - 60, AHEAD, 2 * AHEAD])
def test_whole_texts_are_the_same_at_any_time(
    bundle: Bundle, decoder: Decoder, new: int, steps: int
) -> None:
    engine, begun = Engine(bundle, decoder, EngineOptions(slots=2)), itertools.count()
    asked = request(bundle.vocabulary, "", new, seed=SEED, chunk_seconds=inf)
    own = alone(decoder, bundle.vocabulary, asked)
    readers = []
    while next(begun) < 3 * WIDTH // new:
        for _ in range(2):
            readers.append(Reader())
            engine.submit(asked, readers[-1])
        engine.step(steps=steps // 2)  # so that the two are out of step
        while engine.step(steps=steps):
            pass
    assert [reader.wait() for reader in readers] == [own] * len(readers)


def rest(engine: Engine, chunk: Chunk, new: int, **others: object) -> Outcome:
    """Go on from a chunk's snapshot."""
    assert chunk.snapshot is not None
    reader = Reader()
    asked = request(engine.bundle.vocabulary, "", new, seed=SEED, origin=chunk.snapshot, **others)
    engine.submit(asked, reader)
    while engine.step(steps=64):
        pass
    return reader.wait()


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The workers' time."""
    made = Clock()
    monkeypatch.setattr("serving.engine.workers.worker.time", made)
    return made


@pytest.mark.parametrize("stop", [(), ("\n\n\n", "gab£")])
def test_snapshot_of_what_was_gathered_stands_after_its_text(
    bundle: Bundle, decoder: Decoder, clock: Clock, stop: tuple[str, ...]
) -> None:
    engine, reader = Engine(bundle, decoder), Reader()
    asked = request(
        bundle.vocabulary, "ab", 60, seed=SEED, stop=stop, chunk_seconds=1.0, snapshots=EVERY_CHUNK
    )
    engine.submit(asked, reader)
    runs = 0
    while engine.step(steps=2):
        clock.now += 0.375
        runs += 1
    whole = alone(decoder, bundle.vocabulary, asked)
    assert reader.wait() == whole
    assert 5 < len(reader.chunks) < runs / 2
    sent = 0
    for chunk in reader.chunks[:-1]:
        sent += len(chunk.text)
        own = rest(engine, chunk, 60 - sent, stop=stop)
        assert own.text == whole.text[sent:]
        assert own.log_probs == whole.log_probs[sent:]
        assert own.finish is whole.finish


@given(rows=st.integers(1, 6), runs=st.lists(st.floats(0.001, 0.5), min_size=20, max_size=60))
@settings(max_examples=20, deadline=None)
def test_all_streams_together_keep_to_the_rate_of_chunks(
    tiny_engine: Callable[[float], Engine], rows: int, runs: list[float]
) -> None:
    per_second, clock = 10.0, Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.engine.workers.worker.time", clock)
        engine = tiny_engine(per_second)
        readers = [Reader() for _ in range(rows)]
        for seed, reader in enumerate(readers):
            engine.submit(request(engine.bundle.vocabulary, "", 9999, seed=seed), reader)
        for seconds in runs:
            engine.step(steps=1)
            clock.now += seconds
    chunks = sum(len(reader.chunks) for reader in readers)
    assert chunks <= clock.now * per_second + 2 * rows
    assert chunks > rows or clock.now * per_second < rows


@pytest.fixture(scope="module")
def tiny_engine(bundle: Bundle, decoder: Decoder) -> Callable[[float], Engine]:
    """Make engines that bound the chunks a second."""
    return lambda per_second: Engine(bundle, decoder, EngineOptions(chunks_per_second=per_second))


@pytest.mark.parametrize(
    ("end", "error"), [(cancelled, CancelledError), (late, DeadlineError), (closed, ClosedError)]
)
def test_failure_adds_no_text_after_the_last_snapshot(
    bundle: Bundle,
    decoder: Decoder,
    end: Callable[[Engine, Sequence], None],
    error: type[EngineError],
) -> None:
    engine, reader = Engine(bundle, decoder, EngineOptions(slots=2)), Reader()
    wanted: dict[str, Any] = {
        "chunk_seconds": 1e9,
        "snapshots": Capsules.EVERY_CHUNK,
        "deadline": 1e12,
    }
    sequence = engine.submit(request(bundle.vocabulary, "ab", 50, seed=SEED, **wanted), reader)
    for _ in range(4):
        engine.step(steps=3)
    end(engine, sequence)
    assert isinstance(reader.error, error)
    whole = Chunk.joined(reader.chunks)
    assert whole.snapshot is not None
    assert whole.snapshot.position == 2 + len(whole.text) == 3


def test_failure_while_a_stop_string_settles_loses_no_text(
    bundle: Bundle, decoder: Decoder
) -> None:
    free = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, "", 90, seed=SEED))
    wanted: dict[str, Any] = {
        "chunk_seconds": inf,
        "snapshots": Capsules.FINAL,
        "stop": (free.text[30:34],),
    }
    asked = request(bundle.vocabulary, "", 90, seed=SEED, **wanted)
    engine, reader = Engine(bundle, decoder), Reader()
    sequence = engine.submit(asked, reader)
    while sequence._settling is None:
        engine.step(steps=7)
    engine.close()
    assert isinstance(reader.error, ClosedError)
    assert reader.outcome.text == alone(decoder, bundle.vocabulary, asked).text


def test_time_to_gather_is_not_negative(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="must be 0 or more"):
        request(bundle.vocabulary, "", 1, chunk_seconds=-1.0)
