"""One point of the grid: verified, set up, timed."""

from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.decode.captured_products import captured_products
from benchmarks.decode.judge import Judge
from benchmarks.decode.limits import Reader, products_alone, products_of
from benchmarks.decode.loop import native_loop, read_by_the_loop, whole_loop
from benchmarks.decode.peers.peer import NotRunError, Quantised, Work, Writer
from benchmarks.decode.peers.registry import setups_of
from benchmarks.decode.record import FP32_LOOP, LOOP, NATIVE, PRODUCTS, READ, WORSE_AT_MOST, Point
from benchmarks.decode.settings import DecodeSettings
from benchmarks.decode.text import text_without_ties
from benchmarks.harness.timing import Way, interleave, quickest
from export.graph.weights import ModelWeights
from serving.runtime.kernels import Kernels
from serving.runtime.onnx import Device
from training.model.model import CharRNN
from unroll.bundle.folder import Bundle
from unroll.errors import UnrollError


class PointMeasurer:
    """Measures a model and its bundle at one batch size, beside the bundle in fp32 if it is not."""

    def __init__(
        self,
        model: CharRNN,
        bundle: Bundle,
        batch: int,
        settings: DecodeSettings,
        judge: Judge,
        full: Bundle | None = None,
    ) -> None:
        text = text_without_ties(model, settings.steps, batch)
        self._settings = settings
        self._full = full
        self._judge = judge
        self._expected = text.tokens
        self._work = Work(
            weights=ModelWeights.of(model),
            model=model,
            bundle=bundle,
            uniform=text.uniform,
            device=Device(settings.device),
        )
        self._setups: dict[str, str] = {}
        self._trials: dict[str, dict[str, float]] = {}
        self._not_run: dict[str, str] = {}
        self._losses: dict[str, float] = {}

    def measure(self, name: str, precision: str) -> Point:
        """Verify the texts, choose the setups, time.

        Raises:
            UnrollError: something wrote another text than torch.
        """
        loops = {LOOP: whole_loop(self._work)}
        if self._settings.kernels is Kernels.NATIVE:
            loops[NATIVE] = native_loop(self._work)
        ways: dict[str, Way] = {**loops, **self._limits()}
        if precision == "fp32":
            for loop, writer in loops.items():
                self._verify(loop, writer)
        elif self._full is not None:
            ways[FP32_LOOP] = whole_loop(replace(self._work, bundle=self._full))
        if precision == "int8":
            self._losses[LOOP] = self._judge.loss(LOOP, partial(read_by_the_loop, self._work))
        for peer in self._settings.peer:
            if (fastest := self._fastest(peer, precision)) is not None:
                ways[peer] = fastest
        samples = interleave(ways, self._settings.repeats, self._settings.steps)
        return Point(
            model=name,
            vocabulary=self._work.weights.vocabulary_size,
            batch=self._expected.shape[1],
            precision=precision,
            microseconds=samples,
            setups=self._setups,
            trials=self._trials,
            not_run=self._not_run,
            losses=self._losses,
        )

    def _limits(self) -> dict[str, Way]:
        steps = self._settings.steps
        batch = self._expected.shape[1]
        if self._work.device is not Device.CPU:
            return {PRODUCTS: captured_products(self._work.bundle, batch, steps, self._work.device)}
        products = products_alone(self._work.bundle, batch, steps)
        products()  # the first run allocates
        reader = Reader(products_of(self._work.bundle).weight_bytes)

        def read() -> None:
            for _ in range(steps):
                reader.read()

        return {PRODUCTS: products, READ: read}

    def _fastest(self, peer: str, precision: str) -> Writer | None:
        """Try all setups of a peer; return the writer of the fastest, if one runs here."""
        writers: dict[str, Writer] = {}
        reasons: dict[str, str] = {}
        for setup, make in setups_of(peer, precision, self._work.device).items():
            try:
                writers[setup] = self._checked(f"{peer} ({setup})", make(self._work))
            except NotRunError as error:
                reasons[setup] = str(error)
        if not writers:
            if reasons:
                self._not_run[peer] = "; ".join(dict.fromkeys(reasons.values()))
            return None
        self._not_run |= {f"{peer} ({setup})": reason for setup, reason in reasons.items()}
        trials = {setup: quickest(w) / self._settings.steps for setup, w in writers.items()}
        fastest = min(trials, key=trials.__getitem__)
        self._setups[peer], self._trials[peer] = fastest, trials
        return writers[fastest]

    def _checked(self, name: str, made: Writer | Quantised) -> Writer:
        """Check the text of what was set up; in 8 bits, what it loses."""
        if not isinstance(made, Quantised):
            self._verify(name, made)
            return made
        loss = self._losses[name] = self._judge.loss(name, made.log_probs)
        if not loss <= WORSE_AT_MOST:
            raise NotRunError(f"loses {loss:.4f} nats a symbol, above {WORSE_AT_MOST}")
        return made.write

    def _verify(self, name: str, writer: Writer) -> None:
        if not np.array_equal(writer(), self._expected):
            raise UnrollError(
                f"{self._work.weights.cell}, batch {self._expected.shape[1]}: {name} did not "
                "write what torch wrote"
            )
