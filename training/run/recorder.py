"""What a training leaves on disk: milestones with their samples, and checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.data.prepared import TrainingData
from training.log.metrics import Log, Logs, Metrics, MetricsLog
from training.log.progress import Reporter
from training.log.tensorboard import TensorBoardLog
from training.model.model import CharRNN
from training.model.sample import sample
from training.model.validation import (
    STREAMS_AT_MOST,
    Limit,
    Reading,
    never,
    validate,
    validate_units,
)
from training.run.checkpoint import Checkpoint, save_checkpoint
from training.run.folder import RunFolder
from training.run.state import Progress, TrainingState
from training.settings import TrainingSettings


class Recorder:
    """Measures a training at its milestones and keeps its best and its last state.

    Args:
        settings: the training's.
        model: the model in training.
        data: its text.
        folder: where to write.
        reporter: is told of milestones.
        clock: seconds, monotonic.
        seconds: how long one validation may take, of which a longer one reads stretches of the text
            only, and how long a sample may, which ends there.
        logs: whether to log; of several processes one does.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        model: CharRNN,
        data: TrainingData,
        folder: RunFolder,
        reporter: Reporter,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = math.inf,
        logs: bool = True,
    ) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.folder, self.reporter, self._clock = folder, reporter, clock
        self._seconds = seconds
        self.log = Logs(*self._open_logs()) if logs else Logs()
        self._latest: Metrics | None = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def untrained(self, progress: Progress) -> Progress:
        """Validate the initial weights, to know where the training starts and what it costs."""
        begun = self._clock()
        progress, loss = self._validate(progress)
        took = min(self._clock() - begun, self._seconds)
        self._keep_snapshot(self._figures(progress, loss))
        if loss is not None:
            self.reporter.say(f"untrained: validation loss {loss:.4f}")
        return replace(progress, reserve=took, measuring=took)

    def milestone(self, progress: Progress) -> Progress:
        """Validate, sample, log, report, and keep the weights if they are the best so far."""
        begun = self._clock()
        progress, loss = self._validate(progress)
        metrics = self._latest = self._figures(progress, loss)
        is_best = metrics.loss < progress.best_loss
        if is_best:
            save_checkpoint(self._checkpoint(metrics), self.folder.best)
        self._keep_snapshot(metrics)
        text = self._sample(metrics) if self.settings.sample_symbols else ""
        self.log.milestone(metrics, text)
        self.reporter.milestone(metrics, text, is_best, self._of_a_unit(metrics))
        took = self._clock() - begun
        return replace(
            progress,
            loss_sum=0.0,
            loss_count=0,
            reserve=took,
            measuring=progress.measuring + took,
            best_loss=min(metrics.loss, progress.best_loss),
            since_best=0 if is_best else progress.since_best + 1,
        )

    def save_last(self, state: TrainingState) -> None:
        """Save the state, to be resumed."""
        checkpoint = self._checkpoint(self._latest or self._figures(state.progress, None))
        weights = {name: weight.contiguous() for name, weight in state.weights.items()}
        save_checkpoint(replace(checkpoint, weights=weights, state=state), self.folder.last)
        self.log.flush()

    def _keep_snapshot(self, metrics: Metrics) -> None:
        if not self.settings.snapshots:
            return
        # Of what an explosion undid, nothing counts: it is written again when it comes again.
        before = [update for update in self.folder.kept_updates() if update < metrics.update]
        if metrics.update >= 2 * max(before, default=0):
            self.folder.snapshots.mkdir(exist_ok=True)
            save_checkpoint(self._checkpoint(metrics), self.folder.snapshot(metrics.update))

    def _open_logs(self) -> list[Log]:
        logs: list[Log] = [MetricsLog(self.folder.metrics)]
        if self.settings.tensorboard:
            symbols = self.settings.streams * self.settings.window
            logs.append(TensorBoardLog(self.folder.path, symbols))
        return logs

    def _figures(self, progress: Progress, validation: float | None) -> Metrics:
        position = progress.position
        return Metrics(
            update=progress.update,
            epoch=max(0, position.epoch - (position.window == 0)),
            training_loss=progress.loss_sum / max(1, progress.loss_count),
            validation_loss=validation,
            seconds=progress.elapsed,
        )

    def _validate(self, progress: Progress) -> tuple[Progress, float | None]:
        """Validate; the first time decides how much of the text is read each time."""
        if self.data.validation is None:
            return progress, None
        if progress.validation_steps:
            return progress, self._read(progress.validation_steps, never).loss
        reading = self._read(0, Limit(self._seconds, self._clock))
        self._tell_share(reading)
        return replace(progress, validation_steps=reading.steps), reading.loss

    def _read(self, steps: int, is_over: Callable[[], bool]) -> Reading:
        """Read what is held out: units, or one long text."""
        units, ids = self.data.held_out, self.data.validation
        if units is not None:
            return validate_units(self.model, units.all(), steps=steps, is_over=is_over)
        assert ids is not None
        return validate(self.model, ids, steps=steps, is_over=is_over)

    def _of_a_unit(self, metrics: Metrics) -> str:
        """Say what a document or record costs, where they stand apart."""
        units = self.data.held_out
        if units is None:
            return ""
        return f"  {metrics.loss * units.symbols / units.count:.2f} nats a {self.settings.unit}"

    def _tell_share(self, reading: Reading) -> None:
        units, ids = self.data.held_out, self.data.validation
        symbols = units.symbols if units is not None else 0 if ids is None else len(ids) - 1
        if reading.symbols <= symbols - STREAMS_AT_MOST:  # fewer are left over
            self.reporter.say(
                f"validation reads {reading.symbols:,} of {symbols:,} symbols, spread evenly, to "
                "take at most a tenth of the time; `unroll evaluate` reads all"
            )

    def _sample(self, metrics: Metrics) -> str:
        seed, vocabulary = [self.settings.seed, metrics.update], self.data.vocabulary
        prompt = vocabulary.start_symbol
        if vocabulary.form.unit == "text":
            ids = self.data.streams.ids
            prompt = vocabulary.decode([int(ids[np.random.default_rng(seed).integers(len(ids))])])
        symbols = self.settings.sample_symbols
        (written,) = sample(
            self.model,
            vocabulary,
            prompt=prompt,
            uniforms=np.random.default_rng([*seed, 1]).random((symbols, 1)),
            temperatures=[1.0],
            is_over=Limit(self._seconds, self._clock),
        )
        if len(written) < symbols:
            self.reporter.say(
                f"the sample ends after {len(written):,} of {symbols:,} symbols, to leave time "
                "to the training; `unroll generate` writes longer ones"
            )
        text = prompt + written if vocabulary.form.unit == "text" else _whole_lines(written)
        self.folder.add_sample(
            f"epoch {metrics.epoch}, update {metrics.update}, loss {metrics.loss:.4f}", text
        )
        return text

    def _checkpoint(self, metrics: Metrics) -> Checkpoint:
        return Checkpoint(
            model_settings=self.model.settings,
            training_settings=self.settings,
            vocabulary=self.data.vocabulary,
            corpus_name=self.data.corpus_name,
            corpus_sha256=self.data.corpus_sha256,
            metrics=metrics,
            weights={name: w.detach().contiguous() for name, w in self.model.state_dict().items()},
        )


def _whole_lines(records: str) -> str:
    """Leave out the last record, which the sample's length cut, if there are others."""
    lines = records.splitlines(keepends=True)
    return "".join(lines if len(lines) < 2 or lines[-1].endswith("\n") else lines[:-1])
