"""The command `unroll evaluate`."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from rich.console import Console
from torch import Tensor

from training.data.units import Units
from training.evaluate.adaptive import PASSES, Choice, adaptive_losses, choose_adaptation
from training.evaluate.held_out import HeldOut, find_held_out
from training.evaluate.progress import reading
from training.evaluate.reading import encode, stream_losses, unit_losses, window_losses
from training.evaluate.report import Figure, Report
from training.evaluate.served import (
    Served,
    require_parity,
    require_same_model,
    served_losses,
    served_unit_losses,
)
from training.evaluate.settings import EvaluationSettings
from training.log.progress import say
from training.model.model import CharRNN
from training.run.checkpoint import Checkpoint, load_checkpoint
from unroll.cli import run
from unroll.client.client import Client
from unroll.client.remote.security import Security, read_token
from unroll.errors import DeviceError, SettingsError


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    run(EvaluationSettings, evaluate, name="unroll evaluate", tokens=tokens)


def evaluate(settings: EvaluationSettings) -> None:
    """Measure a checkpoint, from settings to the table.

    Raises:
        UnrollError: a setting, the checkpoint, the text, the device or the server is wrong, or the
            server's figure is not torch's.
    """
    settings.validate()
    _prepare_device(settings)
    console = Console()
    checkpoint = load_checkpoint(settings.checkpoint)
    held_out = find_held_out(checkpoint, corpus=settings.corpus, split=settings.split)
    if held_out.units is not None:
        _evaluate_apart(console, settings, checkpoint, held_out, held_out.units)
        return
    model = checkpoint.model().to(settings.device)
    unknown = checkpoint.vocabulary.count_unknown(held_out.text)
    ids = encode(checkpoint.vocabulary, held_out.text).to(settings.device)
    symbols = len(held_out.text)
    choice = served = None
    with ExitStack() as stack:
        if settings.target:
            client = stack.enter_context(_client(settings))
            same = require_same_model(client, settings.model, checkpoint)
            with reading(console, "server", symbols):  # first: a server may refuse so long a text
                served = served_losses(client, same, held_out.text)
    with reading(console, "stream", symbols) as advance:
        stream = stream_losses(model, ids, advance)
    with reading(console, "window", symbols) as advance:
        window = window_losses(model, ids, advance)
    figures = [Figure.of("stream", stream), Figure.of("window", window)]
    if served is not None:
        figures.append(Figure.of("server", served.losses))
    if settings.adaptive:
        tuning = encode(checkpoint.vocabulary, held_out.tuning).to(settings.device)
        choice, figure = _adapt(console, model, ids, tuning)
        figures.append(figure)
    _tell(console, settings, held_out, tuple(figures), unknown, choice, served)
    if served is not None:
        require_parity(served.losses, stream)


def _evaluate_apart(
    console: Console,
    settings: EvaluationSettings,
    checkpoint: Checkpoint,
    held_out: HeldOut,
    units: Units,
) -> None:
    """Measure units that stand apart, each from a zero state."""
    if settings.adaptive:
        raise SettingsError(
            f"adaptive: reads one long text, and this model was trained on {held_out.unit}s, each "
            "from a zero state; leave --adaptive out"
        )
    vocabulary, model = checkpoint.vocabulary, checkpoint.model().to(settings.device)
    served = None
    if settings.target:
        texts = [vocabulary.text_of(ids) for ids in units.whole()]
        with _client(settings) as client:
            same = require_same_model(client, settings.model, checkpoint)
            with reading(console, "server", units.symbols) as advance:
                served = served_unit_losses(client, same, texts, advance)
    with reading(console, "apart", units.symbols) as advance:
        apart = unit_losses(model, units, advance)
    figures = [Figure.of("apart", apart)]
    if served is not None:
        figures.append(Figure.of("server", served.losses))
    unknown = vocabulary.count_unknown(held_out.text)
    _tell(console, settings, held_out, tuple(figures), unknown, served=served)
    if served is not None:
        require_parity(served.losses, apart)


def _client(settings: EvaluationSettings) -> Client:
    return Client(settings.target, security=Security(token=read_token(None)))


def _tell(
    console: Console,
    settings: EvaluationSettings,
    held_out: HeldOut,
    figures: tuple[Figure, ...],
    unknown: int,
    choice: Choice | None = None,
    served: Served | None = None,
) -> None:
    """Show what was measured, and write it down."""
    report = Report(
        checkpoint=str(settings.checkpoint),
        held_out=held_out,
        figures=figures,
        choice=choice,
        served=served,
        device=settings.device,
        unknown=unknown,
    )
    say(console, report.title())
    console.print(report.table())
    for warning in report.warnings():
        say(console, f"warning: {warning}")
    if settings.json is not None:
        report.write(settings.json)


def _adapt(console: Console, model: CharRNN, ids: Tensor, tuning: Tensor) -> tuple[Choice, Figure]:
    with reading(console, "adaptive: choosing its rate", PASSES * (len(tuning) - 1)) as advance:
        choice = choose_adaptation(model, tuning, advance)
    with reading(console, "adaptive", len(ids) - 1) as advance:
        losses = adaptive_losses(model, ids, choice.adaptation, choice.rms, advance)
    return choice, Figure.of("adaptive", losses)


def _prepare_device(settings: EvaluationSettings) -> None:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda': torch finds no CUDA device here; take --device cpu")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32


if __name__ == "__main__":
    main()
