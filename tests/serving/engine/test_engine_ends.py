"""However a sequence or the engine ends, it ends once, cleanly and for everyone."""

import time

import pytest

from serving.engine.engine import Engine, call_listeners
from serving.engine.request import Chunk, SequenceRequest
from serving.engine.sequence import Delivery
from serving.runtime.decoder import DecodeCall, Decoder, DecodeResult, State
from serving.runtime.onnx import Device
from tests.serving.engine.harness import PATIENCE, Reader, alone, is_alive, request, running, turn
from unroll.bundle.folder import Bundle
from unroll.errors import CancelledError, ClosedError, DeadlineError, EngineError


def test_deadline_ends_a_sequence_wherever_it_is(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, slots=2)
    late = time.monotonic() - 1
    running_one, stalled, queued = Reader(), Reader(), Reader()
    first = engine.submit(request(bundle.vocabulary, "", 50), running_one)
    second = engine.submit(request(bundle.vocabulary, "", 50, buffer_symbols=1), stalled)
    turn(engine, 3)
    turn(engine, 3)
    object.__setattr__(first.request, "deadline", late)
    object.__setattr__(second.request, "deadline", late)
    engine.submit(request(bundle.vocabulary, "", 50, deadline=late), queued)
    assert turn(engine, 3) == []
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


def test_cancelled_sequence_frees_its_slot_at_the_next_call(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, slots=1)
    readers = [Reader() for _ in range(3)]
    first, queued, last = (
        engine.submit(request(bundle.vocabulary, "", 50), reader) for reader in readers
    )
    assert turn(engine, 3) == [first]
    engine.cancel(first)
    engine.cancel(queued)
    assert turn(engine, 3) == [last]
    for reader, generated in ((readers[0], 3), (readers[1], 0)):
        assert isinstance(reader.error, CancelledError)
        assert reader.outcome.generated == generated
    assert readers[2].error is None


def test_cancelled_while_stalled_ends_at_the_next_call(bundle: Bundle, decoder: Decoder) -> None:
    engine, reader = Engine(bundle, decoder, slots=1), Reader()
    sequence = engine.submit(request(bundle.vocabulary, "", 50, buffer_symbols=2), reader)
    assert turn(engine, 3) == [sequence]
    assert turn(engine, 3) == []
    engine.cancel(sequence)
    assert turn(engine, 3) == []
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
    engine = Engine(bundle, decoder, slots=2, workers=workers)
    engine.start()
    readers = [Reader() for _ in asked]
    for one, reader in zip(asked, readers, strict=True):
        engine.submit(one, reader)
    engine.close(drain_seconds=PATIENCE)
    assert [r.wait() for r in readers] == [alone(decoder, bundle.vocabulary, a) for a in asked]
    assert not is_alive(engine)
    with pytest.raises(ClosedError):
        engine.submit(asked[0], Reader())


@pytest.mark.parametrize("workers", [1, 3])
def test_closing_without_a_drain_ends_everyone_wherever_they_are(
    bundle: Bundle, decoder: Decoder, workers: int
) -> None:
    engine = Engine(bundle, decoder, slots=2, workers=workers)
    readers = [Reader() for _ in range(9)]
    for index, reader in enumerate(readers):
        buffer = 1 if index == 0 else None
        engine.submit(request(bundle.vocabulary, "", 10**6, buffer_symbols=buffer), reader)
    for worker in range(workers):
        turn(engine, 2, worker)
    engine.start()
    engine.close()
    for reader in readers:
        reader.wait()
        assert isinstance(reader.error, ClosedError)
    assert not is_alive(engine)


def test_drain_does_not_wait_longer_than_it_may(bundle: Bundle, decoder: Decoder) -> None:
    engine, reader = Engine(bundle, decoder), Reader()
    engine.start()
    engine.submit(request(bundle.vocabulary, "", 50, buffer_symbols=1), reader)
    engine.close(drain_seconds=0.2)
    reader.wait()
    assert isinstance(reader.error, ClosedError)


class FailingDecoder(Decoder):
    """A decoder that fails at its third call."""

    calls = 0

    def run(self, call: DecodeCall, state: State) -> DecodeResult:
        """Fail, the third time."""
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("boom")
        return super().run(call, state)


@pytest.mark.parametrize("workers", [1, 3])
def test_failure_of_a_call_ends_everyone_and_refuses_more(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    engine = Engine(bundle, FailingDecoder(bundle, Device.CPU), slots=2, workers=workers)
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
    assert not is_alive(engine)


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


def test_close_before_start_ends_what_is_queued(bundle: Bundle, decoder: Decoder) -> None:
    engine, reader = Engine(bundle, decoder), Reader()
    engine.submit(request(bundle.vocabulary, "", 5), reader)
    engine.close()
    assert isinstance(reader.error, ClosedError)
