"""What an engine counts, for a page that Prometheus reads."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from serving.engine.histogram import Histogram

_RUN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
_WAIT_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_TEXT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_GAP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_STEPS = (1, 2, 4, 8, 16, 24, 32, 48, 64)
_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


class EngineCounts:
    """What the workers of one engine did; they count side by side.

    Attributes:
        registry: holds all of these and nothing else.
        symbols_read: of prompts and scored texts, by the model; not those of a cached prefix.
        symbols_written: by the model, those behind a stop string included.
        row_steps: of all rows of all loop runs.
        wasted_steps: those of rows whose text had ended, so that they gave nothing.
        rows: of each loop run.
        steps: of each loop run.
        run_seconds: of each loop run.
        queue_seconds: of each request.
        prefill_seconds: of each request.
        first_seconds: of each text.
        decode_seconds: of each text that ended well.
        gap_seconds: of each chunk of a stream but the first.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        symbols = Counter(
            "unroll_symbols",
            "Symbols that the model has read or written, those behind a text's end included.",
            ["kind"],
            registry=self.registry,
        )
        self.symbols_read, self.symbols_written = symbols.labels("read"), symbols.labels("written")
        self.row_steps = Counter(
            "unroll_row_steps", "Steps of all rows of the compiled loop.", registry=self.registry
        )
        self.wasted_steps = Counter(
            "unroll_row_steps_wasted",
            "Steps of rows whose text had ended: the price of runs of many steps.",
            registry=self.registry,
        )
        self.rows = self._histogram(
            "batch_rows", "Rows of each run of the compiled loop: how full batches are.", _ROWS
        )
        self.steps = self._histogram(
            "loop_steps", "Steps of each run of the compiled loop.", _STEPS
        )
        self.run_seconds = self._histogram(
            "loop_seconds", "Time of each run of the compiled loop.", _RUN_SECONDS
        )
        self.queue_seconds = self._histogram(
            "queue_seconds", "Time from a request's arrival to its slot.", _WAIT_SECONDS
        )
        self.prefill_seconds = self._histogram(
            "prefill_seconds",
            "Time from a request's slot to its first symbol, or to the end of a score.",
            _WAIT_SECONDS,
        )
        self.first_seconds = self._histogram(
            "first_symbol_seconds",
            "Time from a request's arrival to its first symbol, without the network.",
            _WAIT_SECONDS,
        )
        self.decode_seconds = self._histogram(
            "decode_seconds",
            "Time from a text's first symbol to its end, if it succeeds.",
            _TEXT_SECONDS,
        )
        self.gap_seconds = self._histogram(
            "chunk_gap_seconds",
            "Time between two chunks of a stream, including waits for slow readers.",
            _GAP_SECONDS,
        )

    def count_run(self, rows: int, steps: int, *, made: int, read: int, seconds: float) -> None:
        """Count a run of the loop.

        Args:
            rows: that made it.
            steps: that it made.
            made: steps of all rows that count.
            read: how many of them read a symbol that was known.
            seconds: that it took.
        """
        self.rows.observe(rows)
        self.steps.observe(steps)
        self.row_steps.inc(rows * steps)
        self.run_seconds.observe(seconds)
        self.symbols_read.inc(read)
        self.symbols_written.inc(made - read)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        return Histogram(f"unroll_{name}", text, bounds, self.registry)


def total(counter: Counter) -> int:
    """Return what a counter of whole numbers, one with all its labels, has come to."""
    (family,) = counter.collect()
    return next(int(each.value) for each in family.samples if each.name.endswith("_total"))


@dataclass(slots=True)
class Times:
    """When things happened to a request, by time.monotonic(); None for not yet.

    Attributes:
        came: it was queued.
        began: it had a slot for the first time.
        first: its first symbol was there, or its score was complete.
        last: its last chunk was.
    """

    came: float
    began: float | None = None
    first: float | None = None
    last: float | None = None

    def note_first(self, counts: EngineCounts, now: float, is_text: bool) -> None:
        """Count the first symbol of a text, or the end of a score.

        Args:
            counts: of the engine that wrote it.
            now: time.monotonic().
            is_text: whether it is a text's.
        """
        assert self.began is not None, "a symbol comes from a slot"
        self.first = now
        counts.prefill_seconds.observe(now - self.began)
        if is_text:
            counts.first_seconds.observe(now - self.came)

    def note_chunk(
        self, counts: EngineCounts, now: float, is_streamed: bool, ends_text: bool
    ) -> None:
        """Count a chunk that is complete now.

        Args:
            counts: of the engine that wrote it.
            now: time.monotonic().
            is_streamed: whether it goes out as soon as it is complete.
            ends_text: whether it is the last one of a text, not of a score.
        """
        if self.last is not None and is_streamed:
            counts.gap_seconds.observe(now - self.last)
        if ends_text and self.first is not None:
            counts.decode_seconds.observe(now - self.first)
        self.last = now
