"""Workers and their threads: who runs what when, and how all of it ends."""

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from serving.engine.sequences.request import Chunk
from serving.engine.sequences.sequence import Delivery, Sequence
from serving.engine.workers.load import Load
from serving.engine.workers.outbox import Batch, Outbox
from serving.engine.workers.scheduler import LONGEST_WAIT, Scheduler
from serving.engine.workers.slots import Slots
from serving.engine.workers.worker import Worker
from unroll.errors import ClosedError

CLOSE_SECONDS = 10.0
FAILED = "the engine failed; details are only in the server log"
# A worker back from a run waits for the interpreter's lock until another thread lets go of it, by
# default up to 5 ms: 64 streams then had 0.4 of the engine's speed, with this 0.8 to 0.9.
SWITCH_SECONDS = 2e-4
log = logging.getLogger(__name__)


class Crew:
    """Runs sequences on workers, each on a thread of its own.

    Args:
        workers: make the loop runs.
        queue_limit: sequences that may wait for a slot.
        outbox: takes what loop runs gave.
        on_failure: called once on a worker's thread when they have failed and run nothing any more;
            must not block.
    """

    def __init__(
        self,
        workers: list[Worker],
        queue_limit: int,
        outbox: Outbox,
        on_failure: Callable[[], None],
    ) -> None:
        self._workers = workers
        self._scheduler = Scheduler(self.slots, queue_limit)
        self._outbox = outbox
        self._on_failure = on_failure
        self._lock = threading.RLock()  # guards the scheduler and the three below
        self._changed = threading.Condition(self._lock)  # workers without a row wait for it
        self._emptied = threading.Condition(self._lock)  # who closes the engine waits for it
        self._closing: ClosedError | None = None
        self._failed = False
        self._drain = False
        self._threads = [
            threading.Thread(target=self._loop, args=[worker], name=f"engine-{n}", daemon=True)
            for n, worker in enumerate(workers)
        ]

    def start(self) -> None:
        """Start the workers' threads; they end with the process, if `close` does not come first.

        From then on, threads of the process take turns at least every SWITCH_SECONDS.
        """
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        atexit.register(self.close)  # ONNX Runtime aborts the process that takes a thread from it
        self._outbox.start()
        for thread in self._threads:
            thread.start()

    def step(self, worker: int = 0, *, steps: int | None = None) -> list[Sequence]:
        """Run one iteration of a worker's thread on the calling thread.

        For tests and measurements; an engine that was started steps by itself.

        Args:
            worker: which one.
            steps: how long the loop run is, 1 or more; by default as long as it would be.

        Returns:
            The rows of the loop run; none if there was nothing to run.
        """
        chosen = self._workers[worker]
        with self._lock:
            rows, ended = self._next_rows(chosen)
        self._put(ended)
        if rows:
            self._turn(chosen, steps)
            self._send(chosen)
        return rows

    @property
    def is_running(self) -> bool:
        """Whether a worker's thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def slots(self) -> list[Slots]:
        """The slots of each worker."""
        return [worker.slots for worker in self._workers]

    def sequences(self) -> list[Sequence]:
        """Return all sequences that have not ended, in the order in which they came."""
        with self._lock:
            return self._scheduler.everyone()

    @property
    def has_failed(self) -> bool:
        """Whether the engine has failed."""
        return self._failed

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do and takes whatever comes."""
        with self._lock:
            return self._closing is None and not len(self._scheduler)

    def load(self) -> Load:
        """Return the current load."""
        with self._lock:
            return Load(
                queued=self._scheduler.waiting,
                stalled=self._scheduler.stalled,
                running=sum(map(len, self.slots)),
                slots=sum(slots.capacity for slots in self.slots),
                workers=len(self._workers),
            )

    def _queue(self, sequence: Sequence) -> None:
        """Let a sequence wait for a slot.

        Raises:
            OverloadedError: the queue is full.
            ClosedError: the engine is closing, or has failed.
        """
        with self._lock:
            if self._closing is not None:
                raise ClosedError(*self._closing.args)  # raised again, one would keep all frames
            self._scheduler.add(sequence)
            self._changed.notify()

    def cancel(self, sequence: Sequence) -> None:
        """Stop a sequence at the next loop run; it ends with CancelledError unless it has ended."""
        with self._lock:
            if self._scheduler.cancel(sequence):
                self._changed.notify()

    def mark_read(self, sequence: Sequence, symbols: int) -> None:
        """Report that the reader has taken symbols; a stalled sequence may continue."""
        with self._lock:
            if self._scheduler.mark_read(sequence, symbols):
                self._changed.notify()

    def refuse(self) -> None:
        """Refuse new sequences from now on; running ones go on until `close`."""
        with self._lock:
            self._closing = self._closing or ClosedError("the server is shutting down")
            self._drain = not self._failed

    def close(self, *, drain_seconds: float = 0.0) -> None:
        """Refuse new sequences, give running ones some time, end the rest, stop the threads."""
        with self._lock:
            self.refuse()
            self._emptied.wait_for(
                lambda: len(self._scheduler) == 0, min(drain_seconds, LONGEST_WAIT)
            )
            self._drain = False
            self._changed.notify_all()
        for worker, thread in zip(self._workers, self._threads, strict=True):
            if thread.is_alive():
                thread.join(CLOSE_SECONDS)
            elif thread.ident is None:  # it was never started
                self._end_all(worker)
        self._outbox.close()
        atexit.unregister(self.close)

    def _loop(self, worker: Worker) -> None:
        with suppress(ClosedError), self._failing():
            worker.slots.warm_up()
            while self._await_rows(worker):
                self._turn(worker)
        self._end_all(worker)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Let the engine fail by what a loop run raises.

        Raises:
            ClosedError: it did.
        """
        try:
            yield
        except Exception:
            log.exception("the engine failed; all its requests end")
            self._fail()
            raise ClosedError(FAILED) from None

    def _fail(self) -> None:
        with self._lock:
            was_failed, self._failed = self._failed, True
            self._closing = ClosedError(FAILED)
            self._drain = False
            self._changed.notify_all()
        if not was_failed:
            try:
                self._on_failure()
            except Exception:  # the event loop that it tells may be gone
                log.exception("the failure of the engine could not be reported")

    @property
    def _goes_on(self) -> bool:
        return self._closing is None or (self._drain and len(self._scheduler) > 0)

    def _await_rows(self, worker: Worker) -> list[Sequence]:
        """Return the rows of a worker's next loop run, once there are some; none is the end."""
        while True:
            with self._lock:
                rows, ended = self._next_rows(worker)
                if not rows and not ended and not worker.outgoing:
                    if not self._goes_on:
                        return []
                    self._changed.wait(self._scheduler.patience(time.monotonic()))
            if not rows:
                self._send(worker)
            self._put(ended)
            if rows:
                return rows

    def _next_rows(self, worker: Worker) -> tuple[list[Sequence], Delivery]:
        """Schedule; also return what is cancelled or late, with its end."""
        if not self._goes_on:
            return [], []
        doomed = self._scheduler.end_doomed(worker.slots, time.monotonic())
        rows = self._scheduler.schedule(worker.slots)
        self._send_before_others(worker, has_ended=bool(doomed))
        if self._scheduler.waiting:
            self._changed.notify(self._scheduler.waiting)
        self._tell_if_empty()
        return rows, [(sequence, sequence.fail(error)) for sequence, error in doomed]

    def _turn(self, worker: Worker, steps: int | None = None) -> None:
        """Make a worker's loop run; meanwhile others take in what the one before gave."""
        batch = worker.step(
            steps,
            is_awaited=self._scheduler.waiting > 0,
            on_begin=partial(self._send, worker),
        )
        worker.outgoing.append(batch)
        with self._lock:
            self._scheduler.settle(worker.slots, batch)
            self._send_before_others(worker)
            self._tell_if_empty()
        if batch.is_small:  # nobody else has much to do
            self._send(worker)

    def _send_before_others(self, worker: Worker, *, has_ended: bool = False) -> None:
        """Send, while nobody else may take them, what sequences that were let go have written.

        Another worker's chunks of the same text, or its end, would come before it.
        """
        if has_ended or worker.slots.has_let_go:
            worker.slots.has_let_go = False
            self._send(worker)

    def _send(self, worker: Worker) -> None:
        for batch in worker.outgoing:
            self._outbox.put(batch)
        worker.outgoing.clear()

    def _tell_if_empty(self) -> None:
        if not len(self._scheduler):
            self._emptied.notify_all()
            if self._closing is not None:
                self._changed.notify_all()

    def _put(self, ends: Delivery) -> None:
        if ends:
            self._outbox.put(Batch(chunks=ends))

    def _end_all(self, worker: Worker) -> None:
        """End all that this worker, or none, holds; the other workers end theirs."""
        self._send(worker)
        with self._lock:
            assert self._closing is not None
            error = self._closing
            lasts = {} if self._failed else self._cut(worker)
            ended = self._scheduler.end_all(worker.slots)
            self._tell_if_empty()
        self._put([(sequence, lasts.get(sequence) or sequence.fail(error)) for sequence in ended])

    def _cut(self, worker: Worker) -> dict[Sequence, Chunk]:
        """Make the last chunks of texts that may end here, with the state they end in."""
        lasts = {}
        for sequence in self._scheduler.held_or_waiting(worker.slots):
            is_held = sequence in worker.slots
            if is_held:
                worker.slots.catch_up(sequence)
            if sequence.can_be_cut:
                state = worker.slots.read(sequence) if is_held else sequence.state
                assert state is not None, "what has written has a state"
                lasts[sequence] = sequence.cut(state)
        return lasts
