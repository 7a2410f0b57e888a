"""The engine: workers that turn sequences into text, many at a time.

    submit -> queue -> a worker's slot -> loop run, loop run, ... -> chunks -> deliver

Each worker is a thread that schedules, makes one run of the compiled loop, collects what came and
delivers it. Rows that read a prompt, rows that write and rows that score share a loop run. Workers
share the decoder, so the weights are in memory once; a sequence may go on with another worker
between two loop runs, and its text does not change by that.
"""

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from serving.engine.counts import EngineCounts
from serving.engine.options import EngineOptions
from serving.engine.outbox import Batch, Outbox, call_listeners
from serving.engine.prefixes import PrefixCache
from serving.engine.request import Chunk, SequenceRequest, check_request
from serving.engine.row import prepared
from serving.engine.scheduler import LONGEST_WAIT, Scheduler
from serving.engine.sequence import SHORTEST_PREFIX, Delivery, Sequence
from serving.engine.slots import Slots
from serving.engine.snapshot import StateLayout
from serving.engine.worker import Worker
from serving.runtime.decoder import Decoder, State
from serving.runtime.device import DeviceRunner, unrolled_weights
from serving.runtime.host import HostRunner, Runner
from serving.runtime.kernels import Kernels
from serving.runtime.native_cuda.runner import NativeRunner
from serving.runtime.native_cuda.weights import NativeWeights
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE_CONSTRAINED
from unroll.errors import ClosedError, InputError

CLOSE_SECONDS = 10.0
# A worker back from a run waits for the interpreter's lock until another thread lets go of it, by
# default up to 5 ms: 64 streams then had 0.4 of the engine's speed, with this 0.8 to 0.9.
SWITCH_SECONDS = 2e-4
DEFAULT_OPTIONS = EngineOptions()

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an engine has to do.

    Attributes:
        queued: sequences without a slot that could run.
        stalled: sequences that wait for their readers.
        running: sequences in slots.
        slots: how many there are.
        workers: likewise.
    """

    queued: int
    stalled: int
    running: int
    slots: int
    workers: int


class Engine:
    """Runs the sequences of one model.

    Text is a function of the bundle, the prompt, the seed and the sampling parameters; who
    else is in the batch, when a sequence came, which worker ran it and how runs are cut do not
    change a bit of it.

    Args:
        bundle: whose vocabulary.
        decoder: runs the bundle's loop; all workers share it.
        options: how to run them.
        new_runner: makes a runner with so many slots for each worker; by default one for the
            options' device.
        on_failure: called once on a worker's thread when the engine has failed and runs nothing any
            more; must not block.
        deliver: called on a worker's thread with the chunks of each loop run, by several workers at
            the same time; must not block. The chunks of one sequence come in order.
    """

    def __init__(
        self,
        bundle: Bundle,
        decoder: Decoder,
        options: EngineOptions = DEFAULT_OPTIONS,
        *,
        new_runner: Callable[[int], Runner] | None = None,
        on_failure: Callable[[], None] = lambda: None,
        deliver: Callable[[Delivery], None] = call_listeners,
    ) -> None:
        self.bundle = bundle
        self.decoder = decoder
        self._device = options.device
        self.layout = StateLayout(bundle.manifest.state, len(bundle.vocabulary))
        self.prefixes = PrefixCache(options.prefix_bytes)
        self.counts = EngineCounts()
        make = new_runner or _runners(bundle, decoder, options)
        self._workers = [
            Worker(
                bundle.vocabulary,
                Slots(make(options.slots), self.counts),
                options.run_seconds,
                options.workers / options.chunks_per_second,
                self._keep_prefix,
            )
            for _ in range(options.workers)
        ]
        self._scheduler = Scheduler(self.slots, options.queue_limit)
        self._outbox = Outbox(bundle.vocabulary, self.counts, deliver)
        self._on_failure = on_failure
        self._lock = threading.RLock()  # guards the scheduler and the three below
        self._changed = threading.Condition(self._lock)  # workers without a row wait for it
        self._emptied = threading.Condition(self._lock)  # who closes the engine waits for it
        self._closing: ClosedError | None = None
        self._failed = False
        self._drain = False
        self._threads = [
            threading.Thread(target=self._loop, args=[worker], name=f"engine-{n}", daemon=True)
            for n, worker in enumerate(self._workers)
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

    def submit(self, request: SequenceRequest, listener: Callable[[Chunk], None]) -> Sequence:
        """Queue a request; its chunks go to the listener through `deliver`.

        Raises:
            InputError: a token id, or what the origin holds, is none of this model's, or its loop
                cannot do what is asked.
            OverloadedError: the queue is full.
            ClosedError: the engine is closing, or has failed.
        """
        check_request(request, self.layout)
        for field, is_wanted in (
            ("top_log_probs", request.alternatives),
            ("pattern", request.automaton),
            ("sampling.logit_bias", request.sampling.logit_bias),
        ):
            if is_wanted:
                self.check_full(field)
        sequence = Sequence(request, self.bundle.vocabulary, self.layout, listener)
        self._skip_prefix(sequence)
        sequence.prepared = prepared(sequence)  # the caller has more time than a worker
        with self._lock:
            if self._closing is not None:
                raise ClosedError(*self._closing.args)  # raised again, one would keep all frames
            self._scheduler.add(sequence)
            self._changed.notify()
        return sequence

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

    def check_full(self, field: str) -> None:
        """Check that the loop can do what a field asks for.

        Raises:
            InputError: it cannot.
        """
        if self._device is not Device.CPU:
            raise InputError(
                field,
                f"cannot be had from a model on {self._device.value}; leave it out, or serve the "
                "bundle on the cpu",
            )
        if not self.decoder.is_full:
            raise InputError(
                field,
                f"cannot be had from this model, whose bundle has no {DECODE_CONSTRAINED}; export "
                "the checkpoint again, or leave it out",
            )

    def _skip_prefix(self, sequence: Sequence) -> None:
        """Spare a prompt's reader what was read before; a score needs every symbol's."""
        request = sequence.request
        if request.origin is None and request.max_new_symbols and self.prefixes.is_on:
            sequence.keeps_prefixes = len(request.prompt) >= SHORTEST_PREFIX
            if sequence.keeps_prefixes:
                prefix = self.prefixes.find(request.prompt, request.caller)
                if prefix is not None:
                    sequence.skip(prefix)

    def _keep_prefix(self, sequence: Sequence, state: State) -> None:
        request, snapshot = sequence.request, sequence.snapshot(state)
        self.prefixes.add(request.prompt[: sequence.done], snapshot, request.caller)

    def _loop(self, worker: Worker) -> None:
        try:
            worker.slots.warm_up()
            while self._await_rows(worker):
                self._turn(worker)
        except Exception:
            log.exception("the engine failed; all its requests end")
            self._fail()
        self._end_all(worker)

    def _fail(self) -> None:
        with self._lock:
            was_failed, self._failed = self._failed, True
            self._closing = ClosedError("the engine failed; details are only in the server log")
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
        with self._lock:
            self._scheduler.settle(worker.slots, batch)
            self._tell_if_empty()
        worker.outgoing.append(batch)
        if batch.is_small:  # nobody else has much to do
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


def _runners(bundle: Bundle, decoder: Decoder, options: EngineOptions) -> Callable[[int], Runner]:
    if options.device is Device.CPU:
        return partial(HostRunner, decoder)
    if options.kernels is Kernels.NATIVE:
        return partial(NativeRunner, bundle, decoder, weights=NativeWeights(bundle))
    weights = unrolled_weights(bundle, options.device)
    return lambda slots: DeviceRunner(bundle, options.device, slots, options.threads, weights)
