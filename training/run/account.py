"""What a training tells: what it begins with, where it resumes, and how it ended."""

import math

from training.data.prepared import TrainingData
from training.data.units import Units
from training.log.progress import Reporter, duration
from training.model.model import CharRNN
from training.run.checkpoint import UPDATES_AT_LEAST, Checkpoint
from training.run.folder import RunFolder
from training.run.trainer import Outcome, Trainer
from training.settings import TrainingSettings
from unroll.bundle.manifest import architecture
from unroll.errors import INTERRUPTED, counted

COMPILING_AT_LEAST = 1.0  # seconds, to be worth a line


def introduce(
    settings: TrainingSettings,
    model: CharRNN,
    data: TrainingData,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    """Say what is trained, on what and where."""
    kept = 0 if data.validation is None else len(data.validation)
    weights, of = sum(weight.numel() for weight in model.parameters()), model.settings
    reporter.say(
        f"{folder.path}: {architecture(of.cell, of.hidden_size, of.layers, of.members)}, "
        f"{weights:,} weights; corpus {data.corpus_name}: "
        f"{len(data.streams.ids):,} symbols to train on, {kept:,} to validate on, "
        f"{_units(data, settings.unit)}{len(data.vocabulary)} unique"
    )
    for note in data.notes:
        reporter.say(note)
    if data.names is not None:
        reporter.say(
            f"respell_names: {len(data.names.known):,} names found"
            + ("" if data.names.known else ", so that the setting changes nothing")
        )


def _units(data: TrainingData, unit: str) -> str:
    if not isinstance(data.streams, Units):
        return ""
    held_out = 0 if data.held_out is None else data.held_out.count
    return f"in {data.streams.count:,} and {held_out:,} {unit}s, "


def tell_where_it_stands(checkpoint: Checkpoint | None, reporter: Reporter) -> None:
    """Say from where a training resumes, if it does."""
    if checkpoint is None or checkpoint.state is None:
        return
    progress = checkpoint.state.progress
    reporter.say(
        f"resumed after {counted(progress.update, 'update')} and {duration(progress.elapsed)}, in "
        f"epoch {progress.position.epoch}; {_best(progress.best_loss)}"
    )
    reporter.validated(checkpoint.metrics.validation_loss)


def _best(loss: float) -> str:
    return f"best loss {loss:.4f} nats per symbol" if math.isfinite(loss) else "not validated yet"


def _reason(outcome: Outcome, trainer: Trainer) -> str:
    """Say why a training ended."""
    settings = trainer.settings
    match outcome:
        case Outcome.INTERRUPTED:
            return ""
        case Outcome.EARLY:
            return f": no better loss in {settings.patience} validations (--patience)"
        case Outcome.FINISHED if trainer.progress.update >= trainer.length.updates:
            return f": all epochs are read (--epochs {settings.epochs})"
        case Outcome.FINISHED:
            return f": the time is over (--minutes {settings.minutes:g})"


def tell_compiling(seconds: float, settings: TrainingSettings, reporter: Reporter) -> None:
    """Say how long the loops were compiled, if that took a part of the time that one notices."""
    if seconds < COMPILING_AT_LEAST:
        return
    of_minutes = " of the minutes" if settings.minutes else ""
    reporter.say(
        f"compiling the loops took {seconds:.0f} s{of_minutes}; later runs on this machine find "
        "them in the cache"
    )


def conclude(
    outcome: Outcome,
    trainer: Trainer,
    folder: RunFolder,
    reporter: Reporter,
    checkpoint: Checkpoint | None,
) -> None:
    """Say how a training ended, and what to do next.

    Args:
        outcome: of the training.
        trainer: that has run.
        folder: of the run.
        reporter: is told.
        checkpoint: from which it was resumed, if it was.

    Raises:
        SystemExit: 130 after Ctrl-C.
    """
    done, updates = trainer.progress, counted(trainer.progress.update, "update")
    if outcome is Outcome.FINISHED and done.update < UPDATES_AT_LEAST:
        reporter.say(f"hardly trained: {updates}; give it more --minutes or --epochs")
    state = None if checkpoint is None else checkpoint.state
    if state is not None and state.progress.update == done.update:
        reporter.say(
            "nothing was left to do; to train it further, start a new run: unroll train --from "
            f"{folder.path} --minutes MINUTES --name NAME"
        )
    reporter.say(
        f"{outcome.value}{_reason(outcome, trainer)}; {updates}, "
        f"{_best(done.best_loss)}; {folder.path} holds checkpoints, samples and curves"
    )
    if outcome is Outcome.INTERRUPTED:
        elsewhere = trainer.settings.runs_dir != TrainingSettings.runs_dir
        place = f" --runs-dir {folder.path.parent}" if elsewhere else ""
        reporter.say(f"continue it: unroll train --resume --name {folder.path.name}{place}")
        raise SystemExit(INTERRUPTED)
