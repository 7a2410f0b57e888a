"""However a sequence or the engine ends, it ends once, cleanly and for everyone."""

import threading
import time
from dataclasses import replace
from math import inf, nan

import pytest

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.sequence import Delivery, Sequence
from serving.engine.sequences.snapshot import StateLayout
from serving.engine.workers.outbox import call_listeners
from serving.engine.workers.scheduler import Scheduler
from serving.engine.workers.slots import Slots
from serving.runtime.decoder import Decoder, LoopResult, LoopRun, State
from serving.runtime.host import HostRunner
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.serving.engine.harness import PATIENCE, Reader, alone, request, running
from unroll.bundle.folder import Bundle
from unroll.errors import CancelledError, ClosedError, DeadlineError, EngineError, InputError


def test_deadline_ends_a_sequence_wherever_it_is(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=2))
    late = time.monotonic() - 1
    running_one, stalled, queued = Reader(), Reader(), Reader()
    first = engine.submit(request(bundle.vocabulary, "", 50), running_one)
    second = engine.submit(request(bundle.vocabulary, "", 50, buffer_symbols=1), stalled)
    engine.step(steps=3)
    engine.step(steps=3)
    object.__setattr__(first.request, "deadline", late)
    object.__setattr__(second.request, "deadline", late)
    engine.submit(request(bundle.vocabulary, "", 50, deadline=late), queued)
    assert engine.step(steps=3) == []
    for reader, generated in ((running_one, 6), (stalled, 3), (queued, 0)):
        assert isinstance(reader.error, DeadlineError)
        assert reader.outcome.generated == generated


def test_deadline_wakes_an_engine_that_waits_for_a_reader(bundle: Bundle, decoder: Decoder) -> None:
    reader = Reader()
    with running(Engine(bundle, decoder)) as engine:
        deadline = time.monotonic() + 0.3
        engine.submit(
            request(bundle.vocabulary, "", 50, deadline=deadline, buffer_symbols=1), reader
        )
        reader.wait()
    assert isinstance(reader.error, DeadlineError)
    assert reader.outcome.generated > 0


@pytest.mark.parametrize("deadline", [9.3e9, 3.6e11, 1e300, inf])
def test_far_deadline_ends_nobody(bundle: Bundle, decoder: Decoder, deadline: float) -> None:
    asked = request(bundle.vocabulary, "", 50, deadline=deadline)
    stalled, other = Reader(), Reader()
    with running(Engine(bundle, decoder)) as engine:
        engine.submit(replace(asked, buffer_symbols=1), stalled)  # leaves the worker without a row
        for _ in range(2):
            engine.submit(asked, other)
            assert other.wait().text
            other = Reader()
        assert not engine.has_failed
    assert isinstance(stalled.error, ClosedError)


def test_wait_for_a_deadline_ends_with_its_sequence(bundle: Bundle, decoder: Decoder) -> None:
    slots, now = Slots(HostRunner(decoder, 3)), time.monotonic()
    scheduler = Scheduler([slots], queue_limit=3)
    layout = StateLayout(bundle.manifest.state, len(bundle.vocabulary))
    sooner, later = (
        Sequence(
            request(bundle.vocabulary, "", 50, deadline=now + seconds),
            bundle.vocabulary,
            layout,
            Reader(),
        )
        for seconds in (50, 100)
    )
    assert scheduler.patience(now) is None
    scheduler.add(sooner)
    scheduler.add(later)
    assert scheduler.patience(now) == pytest.approx(50)
    scheduler.cancel(sooner)
    assert [one for one, _ in scheduler.end_doomed(slots, now)] == [sooner]
    assert scheduler.patience(now) == pytest.approx(100)
    assert [one for one, _ in scheduler.end_doomed(slots, now + 100)] == [later]
    assert scheduler.patience(now) is None


def test_deadline_that_is_no_number_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="deadline: must be a time, got NaN"):
        request(bundle.vocabulary, "", 1, deadline=nan)


@pytest.mark.parametrize("seconds", [1e10, inf])
def test_drain_may_be_given_any_time(bundle: Bundle, decoder: Decoder, seconds: float) -> None:
    engine, reader = Engine(bundle, decoder), Reader()
    engine.start()
    engine.submit(request(bundle.vocabulary, "", 50), reader)
    engine.close(drain_seconds=seconds)
    assert len(reader.wait().text) == 50


def test_cancelled_sequence_frees_its_slot_at_the_next_call(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=1))
    readers = [Reader() for _ in range(3)]
    first, queued, last = (
        engine.submit(request(bundle.vocabulary, "", 50), reader) for reader in readers
    )
    assert engine.step(steps=3) == [first]
    engine.cancel(first)
    engine.cancel(queued)
    assert engine.step(steps=3) == [last]
    for reader, generated in ((readers[0], 3), (readers[1], 0)):
        assert isinstance(reader.error, CancelledError)
        assert reader.outcome.generated == generated
    assert readers[2].error is None


def test_cancelled_while_stalled_ends_at_the_next_call(bundle: Bundle, decoder: Decoder) -> None:
    engine, reader = Engine(bundle, decoder, EngineOptions(slots=1)), Reader()
    sequence = engine.submit(request(bundle.vocabulary, "", 50, buffer_symbols=2), reader)
    assert engine.step(steps=3) == [sequence]
    assert engine.step(steps=3) == []
    engine.cancel(sequence)
    assert engine.step(steps=3) == []
    assert isinstance(reader.error, CancelledError)
    assert reader.outcome.generated == 3


def test_cancelling_what_has_ended_changes_nothing(bundle: Bundle, decoder: Decoder) -> None:
    reader = Reader()
    with running(Engine(bundle, decoder)) as engine:
        sequence = engine.submit(request(bundle.vocabulary, "a", 9), reader)
        outcome = reader.wait()
        engine.cancel(sequence)
        other = Reader()
        engine.submit(request(bundle.vocabulary, "a", 9), other)
        assert other.wait() == outcome
    assert reader.wait() == outcome


@pytest.mark.parametrize("workers", [1, 3])
def test_closing_with_a_drain_finishes_what_runs_and_refuses_what_comes(
    bundle: Bundle, decoder: Decoder, workers: int
) -> None:
    asked = [request(bundle.vocabulary, "a", 300, seed=seed) for seed in range(6)]
    engine = Engine(bundle, decoder, EngineOptions(slots=2, workers=workers))
    engine.start()
    readers = [Reader() for _ in asked]
    for one, reader in zip(asked, readers, strict=True):
        engine.submit(one, reader)
    engine.close(drain_seconds=PATIENCE)
    assert [r.wait() for r in readers] == [alone(decoder, bundle.vocabulary, a) for a in asked]
    assert not engine.is_running
    with pytest.raises(ClosedError):
        engine.submit(asked[0], Reader())


@pytest.mark.parametrize("workers", [1, 3])
def test_closing_without_a_drain_ends_everyone_wherever_they_are(
    bundle: Bundle, decoder: Decoder, workers: int
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=2, workers=workers))
    readers = [Reader() for _ in range(9)]
    for index, reader in enumerate(readers):
        buffer = 1 if index == 0 else None
        engine.submit(request(bundle.vocabulary, "", 10**6, buffer_symbols=buffer), reader)
    for worker in range(workers):
        engine.step(worker, steps=2)
    engine.start()
    engine.close()
    for reader in readers:
        reader.wait()
        assert isinstance(reader.error, ClosedError)
    assert not engine.is_running


def test_drain_does_not_wait_longer_than_it_may(bundle: Bundle, decoder: Decoder) -> None:
    engine, reader = Engine(bundle, decoder), Reader()
    engine.start()
    engine.submit(request(bundle.vocabulary, "", 50, buffer_symbols=1), reader)
    engine.close(drain_seconds=0.2)
    reader.wait()
    assert isinstance(reader.error, ClosedError)


class FailingDecoder(Decoder):
    """A decoder that fails at its third run."""

    runs = 0

    def run(self, call: LoopRun, state: State) -> LoopResult:
        """Fail, the third time."""
        self.runs += 1
        if self.runs == 3:
            raise RuntimeError("boom")
        return super().run(call, state)


@pytest.mark.parametrize("workers", [1, 3])
def test_failure_of_a_call_ends_everyone_and_refuses_more(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    engine = Engine(
        bundle, FailingDecoder(bundle, Device.CPU), EngineOptions(slots=2, workers=workers)
    )
    readers = [Reader() for _ in range(9)]
    for reader in readers:
        engine.submit(request(bundle.vocabulary, "", 10**4), reader)
    engine.start()
    for reader in readers:
        reader.wait()
        assert isinstance(reader.error, ClosedError)
    with pytest.raises(ClosedError, match="engine failed"):
        engine.submit(request(bundle.vocabulary, "", 1), Reader())
    assert "boom" in caplog.text
    engine.close(drain_seconds=PATIENCE)
    assert not engine.is_running


def test_failed_warm_up_is_told_at_once_and_once(bundle: Bundle, decoder: Decoder) -> None:
    class ColdRunner(HostRunner):
        def warm_up(self) -> None:
            raise RuntimeError("no memory for graphs")

    told: list[bool] = []
    failed = threading.Event()

    def on_failure() -> None:
        told.append(engine.has_failed)
        failed.set()
        raise RuntimeError("the loop is closed")

    engine = Engine(
        bundle,
        decoder,
        EngineOptions(workers=3),
        new_runner=lambda slots: ColdRunner(decoder, slots),
        on_failure=on_failure,
    )
    engine.start()
    assert failed.wait(PATIENCE)
    engine.close()
    assert told == [True]
    assert not engine.is_running


class OutOfVocabulary(Decoder):
    """A decoder whose rows with this temperature write a symbol that nobody has."""

    TEMPERATURE = 0.5

    def run(self, call: LoopRun, state: State) -> LoopResult:
        """Spoil some rows."""
        result = super().run(call, state)
        result.tokens[:, call.temperature == self.TEMPERATURE] = 10**6
        return result


def test_row_that_cannot_be_read_ends_alone(bundle: Bundle, decoder: Decoder) -> None:
    asked = request(bundle.vocabulary, "abc", 200)
    spoilt = replace(asked, sampling=SamplingParams(temperature=OutOfVocabulary.TEMPERATURE))
    readers = [Reader() for _ in range(4)]
    with running(
        Engine(bundle, OutOfVocabulary(bundle, Device.CPU), EngineOptions(slots=4))
    ) as engine:
        for index, reader in enumerate(readers):
            engine.submit(spoilt if index == 1 else asked, reader)
        outcomes = [reader.wait() for reader in readers]
        assert not engine.has_failed
    broken = readers.pop(1)
    assert type(broken.error) is EngineError
    assert "the text cannot continue" in str(broken.error)
    assert outcomes[0] == outcomes[2] == outcomes[3] == alone(decoder, bundle.vocabulary, asked)


def frames_of_refusal(engine: Engine, one: SequenceRequest) -> int:
    """Count the frames that a refusal keeps alive."""
    with pytest.raises(EngineError) as caught:
        engine.submit(one, Reader())
    return len(caught.traceback)


def test_refusals_of_a_closed_engine_keep_nothing_of_each_other(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder)
    engine.start()
    engine.close()
    one = request(bundle.vocabulary, "", 1)
    assert len({frames_of_refusal(engine, one) for _ in range(3)}) == 1


def test_listener_that_raises_ends_nobody_elses_text(bundle: Bundle, decoder: Decoder) -> None:
    def broken(chunk: Chunk) -> None:
        raise ZeroDivisionError

    reader = Reader()
    asked = request(bundle.vocabulary, "abc", 20)
    with running(Engine(bundle, decoder)) as engine:
        engine.submit(asked, broken)
        engine.submit(asked, reader)
        reader.wait()
    assert reader.outcome == alone(decoder, bundle.vocabulary, asked)


def test_delivery_that_raises_leaves_the_engine_running(bundle: Bundle, decoder: Decoder) -> None:
    reader = Reader()
    failures = iter([True])

    def deliver(delivery: Delivery) -> None:
        if next(failures, False):
            raise RuntimeError("the loop is closed")
        call_listeners(delivery)

    with running(Engine(bundle, decoder, deliver=deliver)) as engine:
        engine.cancel(engine.submit(request(bundle.vocabulary, "", 50), Reader()))
        engine.submit(request(bundle.vocabulary, "", 5), reader)
        reader.wait()
    assert next(failures, None) is None, "nothing was raised, so this tests nothing"
    assert len(reader.outcome.text) == 5


def test_close_before_start_ends_what_is_queued(bundle: Bundle, decoder: Decoder) -> None:
    engine, reader = Engine(bundle, decoder), Reader()
    engine.submit(request(bundle.vocabulary, "", 5), reader)
    engine.close()
    assert isinstance(reader.error, ClosedError)
