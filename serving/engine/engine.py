"""The engine: workers that turn sequences into text, many at a time.

    submit -> queue -> a worker's slot -> loop run, loop run, ... -> chunks -> deliver

Each worker is a thread that schedules, makes one run of the compiled loop, collects what came and
delivers it. Rows that read a prompt, rows that write and rows that score share a loop run. Workers
share the decoder, so the weights are in memory once; a sequence may go on with another worker
between two loop runs, and its text does not change by that.

A short request that finds the engine idle runs on the thread that makes it: `run_inline`.
"""

import time
from collections.abc import Callable
from functools import partial

from serving.engine.counts import EngineCounts
from serving.engine.options import EngineOptions
from serving.engine.rows.row import prepared
from serving.engine.sequences.prefixes import SHORTEST_PREFIX, PrefixCache
from serving.engine.sequences.request import Chunk, SequenceRequest, check_request
from serving.engine.sequences.sequence import Delivery, Sequence
from serving.engine.sequences.snapshot import StateLayout
from serving.engine.workers.crew import Crew
from serving.engine.workers.inline import Inline
from serving.engine.workers.outbox import Outbox, call_listeners, nobody
from serving.engine.workers.slots import Slots
from serving.engine.workers.step_times import StepTimes
from serving.engine.workers.worker import Worker
from serving.runtime.decoder import Decoder, State
from serving.runtime.device.runner import DeviceRunner, unrolled_weights
from serving.runtime.host import HostRunner, Runner
from serving.runtime.kernels import Kernels
from serving.runtime.native_cuda.runner import NativeRunner
from serving.runtime.native_cuda.weights import NativeWeights
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import DECODE_CONSTRAINED
from unroll.errors import InputError

DEFAULT_OPTIONS = EngineOptions()


class Engine(Crew):
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
        step_times = StepTimes()
        workers = [
            Worker(
                bundle.vocabulary,
                Slots(make(options.slots), self.counts),
                options.run_seconds,
                options.workers / options.chunks_per_second,
                self._keep_prefix,
                step_times,
            )
            for _ in range(options.workers)
        ]
        self._inline = Inline(bundle.vocabulary, decoder, self.counts, step_times)
        outbox = Outbox(bundle.vocabulary, self.counts, deliver)
        super().__init__(workers, options.queue_limit, outbox, on_failure)

    def submit(self, request: SequenceRequest, listener: Callable[[Chunk], None]) -> Sequence:
        """Queue a request; its chunks go to the listener through `deliver`.

        Raises:
            InputError: a token id, or what the origin holds, is none of this model's, or its loop
                cannot do what is asked.
            OverloadedError: the queue is full.
            ClosedError: the engine is closing, or has failed.
        """
        sequence = self._sequence(request, listener)
        self._skip_prefix(sequence)
        sequence.prepared = prepared(sequence)  # the caller has more time than a worker
        self._queue(sequence)
        return sequence

    def run_inline(self, request: SequenceRequest) -> Chunk | None:
        """Run a short request on the calling thread, if the engine has nothing else to do.

        It takes INLINE_SECONDS at most, as far as one can know before; to hand a request to a
        worker, and what came back again, takes longer.

        Returns:
            All that comes of it; None where it is to be submitted.

        Raises:
            InputError, ClosedError: as `submit`.
        """
        if self._device is not Device.CPU or not self.is_idle:
            return None
        if self._keeps_prefixes(request) or not self._inline.fits(request, time.monotonic()):
            return None
        sequence = self._sequence(request, nobody)
        with self._failing():
            return self._inline.run(sequence)

    def _sequence(self, request: SequenceRequest, listener: Callable[[Chunk], None]) -> Sequence:
        check_request(request, self.layout)
        for field, is_wanted in (
            ("top_log_probs", request.alternatives),
            ("pattern", request.automaton),
            ("sampling.logit_bias", request.sampling.logit_bias),
        ):
            if is_wanted:
                self.check_full(field)
        return Sequence(request, self.bundle.vocabulary, self.layout, listener)

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
        sequence.keeps_prefixes = self._keeps_prefixes(request)
        if sequence.keeps_prefixes:
            prefix = self.prefixes.find(request.prompt, request.caller)
            if prefix is not None:
                sequence.skip(prefix)

    def _keeps_prefixes(self, request: SequenceRequest) -> bool:
        begins_text = request.origin is None and request.max_new_symbols > 0
        return self.prefixes.is_on and begins_text and len(request.prompt) >= SHORTEST_PREFIX

    def _keep_prefix(self, sequence: Sequence, state: State) -> None:
        request, snapshot = sequence.request, sequence.snapshot(state)
        self.prefixes.add(request.prompt[: sequence.done], snapshot, request.caller)


def _runners(bundle: Bundle, decoder: Decoder, options: EngineOptions) -> Callable[[int], Runner]:
    if options.device is Device.CPU:
        return partial(HostRunner, decoder)
    if options.kernels is Kernels.NATIVE:
        return partial(NativeRunner, bundle, decoder, weights=NativeWeights(bundle))
    weights = unrolled_weights(bundle, options.device)
    return lambda slots: DeviceRunner(bundle, options.device, slots, options.threads, weights)
