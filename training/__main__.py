"""The command `unroll train`; under torchrun, `-m training`."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console

from training.data.corpus.corpus import Corpus, from_anywhere, load_corpus
from training.data.decoding.decode import Rules
from training.data.prepared import TrainingData, prepare_data
from training.data.rare import join_rare
from training.log.plot import plot_losses
from training.log.progress import Reporter
from training.log.tensorboard import require_tensorboard
from training.model.cudnn import prepare_cudnn, require_cudnn
from training.model.device import apply_precision, keep_freed_memory, resolve_precision
from training.model.initialisation import build_model
from training.model.model import CharRNN
from training.presets import preset_files
from training.recurrence.compiling_time import seconds_compiling
from training.run.account import conclude, introduce, tell_compiling, tell_where_it_stands
from training.run.checkpoint import Checkpoint, load_checkpoint
from training.run.fitting import fit_updates
from training.run.folder import RunFolder
from training.run.going_on import grown_vocabulary, model_to_go_on, settings_to_go_on
from training.run.interrupt import StopRequest
from training.run.parallel import Group
from training.run.resume import settings_to_resume
from training.run.trainer import Trainer
from training.settings import TrainingSettings
from unroll.cli import in_utf8, run
from unroll.errors import CheckpointError, CorpusError, DeviceError, SettingsError, counted


def train(settings: TrainingSettings) -> None:
    """Run one training, new or resumed, from settings to the files of its run.

    Under torchrun this is one of several processes that train together.

    Raises:
        UnrollError: a setting, the corpus, a checkpoint or the device is wrong, or the training
            exploded too often.
        SystemExit: 130 after Ctrl-C.
    """
    settings, checkpoint, old = _begun(settings)
    with closing(RunFolder(settings.runs_dir / settings.run_name)) as folder:
        _train(settings, folder, checkpoint, old)


def _train(
    settings: TrainingSettings,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    old: Checkpoint | None,
) -> None:
    settings = replace(settings, corpus=from_anywhere(settings.corpus))
    with Group.of_environment(settings.device) as group:
        _check_processes(group, settings)
        reporter = Reporter(Console(quiet=not group.first))
        settings = _prepare_device(settings, reporter, checkpoint)
        corpus = _corpus(settings, reporter, checkpoint, old)
        data = prepare_data(corpus, settings)
        model = _model(settings, data, old, reporter)
        if settings.device == "cuda":
            require_cudnn(model, settings.streams // group.size)
        _require_same(group, settings, data, checkpoint)
        started = time.monotonic()
        if checkpoint is None:
            settings, data = _fit(settings, model, data, corpus, group, reporter)
        if group.first:
            _make_room(folder, reporter, is_new=checkpoint is None)
        introduce(settings, model, data, folder, reporter)
        tell_where_it_stands(checkpoint, reporter)
        with StopRequest() as stop, reporter:
            trainer = Trainer(
                settings,
                model,
                data,
                folder,
                reporter,
                state=checkpoint.state if checkpoint else None,
                stop=stop,
                group=group,
                begun=started,
            )
            outcome = trainer.run()
    if group.first:
        plot_losses(folder.metrics, folder.plot)
    tell_compiling(seconds_compiling(), settings, reporter)
    conclude(outcome, trainer, folder, reporter, checkpoint)


def _check_processes(group: Group, settings: TrainingSettings) -> None:
    """Check that so many processes can share the training.

    Raises:
        SettingsError: they cannot.
    """
    group.require_divisible(settings.streams)
    if settings.apart and group.size > 1:
        raise SettingsError(
            "documents and records: one process trains on them; start it without torchrun"
        )


def _make_room(folder: RunFolder, reporter: Reporter, *, is_new: bool) -> None:
    if not is_new:
        folder.hold()
        return
    moved = folder.create()
    if moved is not None:
        reporter.say(f"{folder.path}: the older run of that name was moved to {moved}")


def _begun(
    settings: TrainingSettings,
) -> tuple[TrainingSettings, Checkpoint | None, Checkpoint | None]:
    """Return the settings of this run, its checkpoint if it is resumed, that which it goes on from.

    Raises:
        UnrollError: as train.
    """
    settings = in_utf8(settings, "add_symbols")
    checkpoint = old = None
    if settings.resume:
        folder = RunFolder(settings.runs_dir / settings.run_name)
        checkpoint = load_checkpoint(folder.require_resumable())
        settings = settings_to_resume(
            settings, checkpoint.training_settings, has_cuda=torch.cuda.is_available()
        )
    elif settings.from_:
        old = load_checkpoint(Path(settings.from_))
        settings = settings_to_go_on(settings, old.training_settings)
    settings.validate()
    if settings.tensorboard:
        require_tensorboard()
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda': torch finds no CUDA device here; take --device cpu")
    return settings, checkpoint, old


def _require_same(
    group: Group, settings: TrainingSettings, data: TrainingData, checkpoint: Checkpoint | None
) -> None:
    """Make sure that all processes are about to train the same."""
    of_each_machine = {"corpus", "runs_dir", "from_", "threads"}
    facts = {name: v for name, v in asdict(settings).items() if name not in of_each_machine}
    facts["the text's sha256"] = data.corpus_sha256
    if checkpoint is not None and checkpoint.state is not None:
        facts["the checkpoint's updates"] = checkpoint.state.progress.update
    group.require_same(facts)


def _prepare_device(
    settings: TrainingSettings, reporter: Reporter, checkpoint: Checkpoint | None
) -> TrainingSettings:
    """Set torch up; returns the settings with the precision that is meant by auto."""
    if checkpoint is not None and checkpoint.training_settings.device != settings.device:
        begun = checkpoint.training_settings.device
        reporter.say(
            f"the run was started on {begun} and continues on {settings.device}, where sums are "
            "rounded differently"
        )
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    precision = resolve_precision(settings.precision, settings.device)
    apply_precision(precision)
    if settings.precision == "auto":
        reporter.say(f"precision: {precision}, the faster one on this {settings.device} device")
    settings = replace(settings, precision=precision)
    if settings.device == "cuda":
        prepare_cudnn(settings)
    return settings


def _load(settings: TrainingSettings, reporter: Reporter) -> Corpus:
    try:
        corpus = load_corpus(settings.corpus, Rules.of(settings))
    except CorpusError as error:
        if not settings.resume:
            raise
        raise CorpusError(
            f"resume: the run's text is not where it was; name it with --corpus ({error})"
        ) from error
    if not (settings.resume or settings.from_):  # else the old run's vocabulary says it
        corpus = join_rare(corpus, settings)
    for note in corpus.notes:
        reporter.say(f"corpus {corpus.name}: {note}")
    return corpus


def _corpus(
    settings: TrainingSettings,
    reporter: Reporter,
    checkpoint: Checkpoint | None,
    old: Checkpoint | None,
) -> Corpus:
    """Load the text, in the vocabulary of the run that is resumed or gone on with, if any."""
    corpus = _load(settings, reporter)
    if checkpoint is not None:
        if checkpoint.corpus_sha256 != corpus.sha256:
            raise CheckpointError(
                f"resume: the corpus has sha256 {corpus.sha256}, the run was started with "
                f"{checkpoint.corpus_sha256}; name that text with --corpus, or start a new run"
            )
        return corpus.under(checkpoint.vocabulary)
    if old is not None:
        return corpus.under(grown_vocabulary(old, corpus, settings.add_symbols))
    if len(corpus.vocabulary) == 1:
        raise CorpusError(
            f"corpus {corpus.name}: nothing to learn, all of it is the symbol "
            f"{corpus.vocabulary.symbols!r}; take another text"
        )
    return corpus


def _model(
    settings: TrainingSettings, data: TrainingData, old: Checkpoint | None, reporter: Reporter
) -> CharRNN:
    if old is None:
        return build_model(settings, len(data.vocabulary))
    updates = counted(old.metrics.update, "update")
    reporter.say(f"begins with the weights of {settings.from_}, after {updates}")
    return model_to_go_on(old, settings, data.vocabulary)


def _fit(
    settings: TrainingSettings,
    model: CharRNN,
    data: TrainingData,
    corpus: Corpus,
    group: Group,
    reporter: Reporter,
) -> tuple[TrainingSettings, TrainingData]:
    """Make updates so short that a time budget can be kept."""
    fitted = fit_updates(settings, model, group)
    if fitted == settings:
        return settings, data
    reporter.say(
        f"updates of {fitted.streams} streams x {fitted.window} symbols, not of {settings.streams} "
        f"x {settings.window}, each of which would take too much of {settings.minutes:g} minutes"
    )
    return fitted, prepare_data(corpus, fitted)


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    run(
        TrainingSettings,
        train,
        name="unroll train",
        tokens=tokens,
        preset=preset_files,
        together=("epochs", "minutes"),
    )


if __name__ == "__main__":
    main()
