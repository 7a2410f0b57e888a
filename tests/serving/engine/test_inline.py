"""Short requests that run on the thread that makes them."""

import time
from dataclasses import replace
from typing import Any

import pytest

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.workers import inline, step_times, time_share
from serving.engine.workers.step_times import REMEMBERED, Kind
from serving.engine.workers.time_share import REST_SECONDS, WINDOW_SECONDS, TimeShare
from serving.runtime.decoder import Decoder, LoopResult, LoopRun, State
from serving.runtime.sampling import SamplingParams
from tests.serving.engine.harness import Outcome, Reader, alone, request, running
from tests.serving.runtime.runs import FILTERED, PLAIN
from unroll.bundle.folder import Bundle
from unroll.errors import ClosedError
from unroll.terms import Capsules, FinishReason

ENOUGH = 1e3  # seconds: whatever fits by its kind is short enough


@pytest.fixture
def engine(bundle: Bundle, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine whose workers never start, and for which every request is short."""
    monkeypatch.setattr(inline, "INLINE_SECONDS", ENOUGH)
    monkeypatch.setattr(time_share, "SHARE_AT_MOST", ENOUGH)
    engine = Engine(bundle, decoder, EngineOptions(slots=4))
    assert engine.run_inline(request(bundle.vocabulary, "", 1)) is not None  # knows a step's time
    return engine


def outcome(chunk: Chunk) -> Outcome:
    """Return what came of a request as harness.alone tells it."""
    return Outcome(chunk.text, tuple(map(float, chunk.log_probs)), chunk.finish, chunk.generated)


def stepped(engine: Engine, asked: SequenceRequest) -> Chunk:
    """Let a worker run a request to its end."""
    reader = Reader()
    engine.submit(asked, reader)
    while not reader.ended.is_set():
        engine.step()
    return Chunk.joined(reader.chunks)


def asked(bundle: Bundle, prompt: str, new: int, **others: Any) -> SequenceRequest:
    """Ask for a whole text, with the state at its end."""
    whole = {"snapshots": Capsules.FINAL, "chunk_seconds": float("inf")}
    return request(bundle.vocabulary, prompt, new, **whole | others)


@pytest.mark.parametrize("sampling", PLAIN + FILTERED)
@pytest.mark.parametrize(
    ("prompt", "new"), [("", 1), ("", 40), ("abc", 1), ("bad cab", 30), ("f", 0)]
)
def test_what_runs_inline_is_what_a_worker_writes(
    bundle: Bundle,
    decoder: Decoder,
    engine: Engine,
    prompt: str,
    new: int,
    sampling: SamplingParams,
) -> None:
    for stop in (), ("d",), ("fe", "gaf", "bb"):
        one = asked(bundle, prompt, new, seed=11, sampling=sampling, stop=stop)
        found = engine.run_inline(one)
        assert found is not None
        assert outcome(found) == alone(decoder, bundle.vocabulary, one)
        by_worker = stepped(engine, one)
        assert found.snapshot is not None
        assert by_worker.snapshot is not None
        assert found.snapshot.pack() == by_worker.snapshot.pack()
        assert found.position == by_worker.position


def test_both_runs_of_a_text_that_stops_early_are_counted(bundle: Bundle, engine: Engine) -> None:
    def counted() -> dict[str, float]:
        registry = engine.counts.registry
        told = {
            name: registry.get_sample_value(f"unroll_{name}")
            for name in ("row_steps_total", "loop_steps_sum", "loop_seconds_count")
        }
        told["wasted"] = registry.get_sample_value("unroll_row_steps_wasted_total")
        for kind in ("read", "written"):
            told[kind] = registry.get_sample_value("unroll_symbols_total", {"kind": kind})
        return {name: value for name, value in told.items() if value is not None}

    before = counted()
    found = engine.run_inline(asked(bundle, "ab", 40, seed=5, stop=("d",)))
    assert found is not None
    assert found.finish is FinishReason.STOP
    steps = 2 + found.generated
    assert steps < 42
    assert {name: value - before[name] for name, value in counted().items()} == {
        "row_steps_total": 42 + steps,
        "loop_steps_sum": 42 + steps,
        "loop_seconds_count": 2,
        "wasted": 42 - steps,
        "read": 2 + steps,
        "written": 40,
    }


def test_text_that_goes_on_inline_is_one_text(bundle: Bundle, engine: Engine) -> None:
    whole = engine.run_inline(asked(bundle, "ab", 60, seed=3))
    assert whole is not None
    first = engine.run_inline(asked(bundle, "ab", 23, seed=3))
    assert first is not None
    second = engine.run_inline(asked(bundle, "", 37, seed=3, origin=first.snapshot))
    assert second is not None
    assert first.text + second.text == whole.text
    assert second.snapshot is not None
    assert whole.snapshot is not None
    assert second.snapshot.pack() == whole.snapshot.pack()


def test_what_is_held_back_for_a_stop_string_goes_on_inline(bundle: Bundle, engine: Engine) -> None:
    text = stepped(engine, asked(bundle, "", 40, seed=5)).text
    stop = text[19:22]
    assert text.index(stop) == 19
    reader = Reader()
    every = asked(bundle, "", 40, seed=5, stop=(stop,), snapshots=Capsules.EVERY_CHUNK)
    first = engine.submit(replace(every, chunk_seconds=0.0), reader)
    engine.step(steps=20)
    engine.cancel(first)
    engine.step()
    held = reader.chunks[0].snapshot
    assert held is not None
    assert len(held.held) == 1
    second = engine.run_inline(replace(every, origin=held, max_new_symbols=20))
    assert second is not None
    assert second.finish is FinishReason.STOP
    assert reader.chunks[0].text + second.text == text[:19]


def test_only_what_a_plain_short_run_can_do_runs_inline(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = asked(bundle, "ab", 3)
    biased = SamplingParams(logit_bias=((2, 1.0),))
    assert engine.run_inline(plain) is not None
    assert engine.run_inline(replace(plain, alternatives=2)) is None
    assert engine.run_inline(replace(plain, sampling=biased)) is None
    assert engine.run_inline(replace(plain, deadline=time.monotonic())) is None
    monkeypatch.setattr(inline, "INLINE_SECONDS", 0.0)
    assert engine.run_inline(plain) is None


def test_nothing_runs_inline_beside_another_text(bundle: Bundle, engine: Engine) -> None:
    other = engine.submit(request(bundle.vocabulary, "", 5), Reader())
    assert engine.run_inline(asked(bundle, "", 1)) is None
    engine.cancel(other)
    engine.step()
    assert engine.run_inline(asked(bundle, "", 1)) is not None


def test_nothing_runs_inline_once_the_engine_closes(bundle: Bundle, engine: Engine) -> None:
    engine.close()
    one = asked(bundle, "", 1)
    assert engine.run_inline(one) is None
    with pytest.raises(ClosedError):
        engine.submit(one, Reader())


def test_a_prompt_whose_state_is_kept_goes_to_a_worker(
    bundle: Bundle, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "INLINE_SECONDS", ENOUGH)
    monkeypatch.setattr(time_share, "SHARE_AT_MOST", ENOUGH)
    engine = Engine(bundle, decoder, EngineOptions(slots=4, prefix_bytes=2**20))
    assert engine.run_inline(asked(bundle, "", 1)) is not None
    long = asked(bundle, "ab" * 200, 1)
    assert engine.run_inline(long) is None
    stepped(engine, long)
    assert (engine.prefixes.hits, engine.prefixes.misses) == (0, 1)  # each prompt counts once


class Slow(Decoder):
    """Takes so many seconds a step by its own clock, and can break."""

    clock = 100.0
    step_seconds = 1.0
    is_broken = False

    def run(self, run: LoopRun, state: State) -> LoopResult:
        """Make the run, or break."""
        if self.is_broken:
            raise RuntimeError("broken")
        self.clock += self.step_seconds * len(run.forced)
        return super().run(run, state)


@pytest.fixture
def slow(bundle: Bundle, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """A decoder whose clock is the one by which loop runs are timed."""
    slow = object.__new__(Slow)
    slow.__dict__.update(decoder.__dict__)
    monkeypatch.setattr("time.perf_counter", lambda: slow.clock)
    return slow


def test_a_slow_model_runs_inline_a_few_times_only(bundle: Bundle, slow: Slow) -> None:
    engine = Engine(bundle, slow, EngineOptions(slots=4))
    ran = [engine.run_inline(asked(bundle, "", 1)) is not None for _ in range(REMEMBERED + 3)]
    assert ran == [True] * REMEMBERED + [False] * 3


def test_longer_texts_run_inline_where_steps_are_fast(bundle: Bundle, slow: Slow) -> None:
    slow.step_seconds = inline.INLINE_SECONDS / 8.5
    engine = Engine(bundle, slow, EngineOptions(slots=4))
    assert engine.run_inline(asked(bundle, "", 2)) is None  # nothing is known yet
    assert engine.run_inline(asked(bundle, "", 1)) is not None
    assert engine.run_inline(asked(bundle, "abc", 5)) is not None
    assert engine.run_inline(asked(bundle, "abc", 6)) is None


def test_runs_of_a_worker_tell_how_long_steps_take(bundle: Bundle, slow: Slow) -> None:
    slow.step_seconds = inline.INLINE_SECONDS / 8.5
    engine = Engine(bundle, slow, EngineOptions(slots=4))
    text = asked(bundle, "abc", 5)
    assert engine.run_inline(text) is None  # nothing is known yet
    by_worker = stepped(engine, text)
    found = engine.run_inline(text)
    assert found is not None
    assert outcome(found) == outcome(by_worker)


def test_fast_steps_of_scores_do_not_let_longer_texts_run_inline(
    bundle: Bundle, slow: Slow
) -> None:
    texts = inline.INLINE_SECONDS / 4.5
    scores, filtered = texts / 4, texts * 4
    top = SamplingParams(top_k=3)
    engine = Engine(bundle, slow, EngineOptions(slots=4))
    slow.step_seconds = texts
    assert engine.run_inline(asked(bundle, "", 1)) is not None
    slow.step_seconds = scores
    assert engine.run_inline(asked(bundle, "abcdabcd", 0)) is None  # by what a text has shown
    assert engine.run_inline(asked(bundle, "a", 0)) is not None
    assert engine.run_inline(asked(bundle, "abcdabcd", 0)) is not None
    assert engine.run_inline(asked(bundle, "", 8)) is None
    slow.step_seconds = filtered
    assert (
        engine.run_inline(asked(bundle, "", 2, sampling=top)) is not None
    )  # the first of its kind
    assert engine.run_inline(asked(bundle, "", 2, sampling=top)) is None
    slow.step_seconds = texts
    assert engine.run_inline(asked(bundle, "", 4)) is not None


def test_a_model_that_was_slow_is_tried_again(
    bundle: Bundle, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(bundle, slow, EngineOptions(slots=4))
    while engine.run_inline(asked(bundle, "", 1)):
        pass
    monkeypatch.setattr(step_times, "FORGOTTEN_SECONDS", 0.0)
    assert engine.run_inline(asked(bundle, "", 1)) is not None


def test_a_broken_loop_run_fails_the_engine(bundle: Bundle, slow: Slow) -> None:
    failures = []
    engine = Engine(bundle, slow, EngineOptions(slots=4), on_failure=lambda: failures.append(1))
    with running(engine):
        slow.is_broken = True
        with pytest.raises(ClosedError, match="the engine failed"):
            engine.run_inline(asked(bundle, "", 1))
        assert engine.has_failed
        assert failures == [1]
        with pytest.raises(ClosedError, match="the engine failed"):
            engine.submit(asked(bundle, "", 1), Reader())


def test_what_runs_inline_is_counted_as_a_workers(bundle: Bundle, decoder: Decoder) -> None:
    one = asked(bundle, "", 1, stop=("zz",))
    pages = []
    for run in (Engine.run_inline, stepped):
        engine = Engine(bundle, decoder, EngineOptions(slots=4))
        engine._inline._step_times.learn(Kind.of(one), 0.0)
        assert run(engine, one) is not None
        samples = [s for family in engine.counts.registry.collect() for s in family.samples]
        is_time = ("_sum", "_created")
        pages.append(
            {
                (s.name, *sorted(s.labels.items())): s.value
                for s in samples
                if not s.name.endswith(is_time) and "le" not in s.labels
            }
        )
    assert pages[0] == pages[1]
    assert pages[0]["unroll_symbols_total", ("kind", "written")] == 1


def test_runs_that_take_more_than_their_share_of_the_time_rest_for_a_while() -> None:
    share = TimeShare()
    assert share.is_left(100.0)
    share.spend(0.2)
    assert share.is_left(101.0)
    share.spend(0.3)
    assert share.is_left(101.0 + WINDOW_SECONDS / 2)  # no window yet
    assert not share.is_left(102.0)
    assert not share.is_left(102.0 + 0.9 * REST_SECONDS)
    assert share.is_left(102.0 + 1.1 * REST_SECONDS)


def test_engine_counts_what_its_inline_runs_take(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_share, "SHARE_AT_MOST", 0.0)  # one run is too much
    plain = asked(bundle, "ab", 3)
    engine.run_inline(plain)
    time.sleep(2 * WINDOW_SECONDS)
    assert engine.run_inline(plain) is None
    monkeypatch.setattr(time_share, "REST_SECONDS", 0.0)
    monkeypatch.setattr(time_share, "SHARE_AT_MOST", ENOUGH)
    time.sleep(REST_SECONDS)
    assert engine.run_inline(plain) is not None
