"""Command line of the load generator: `python -m benchmarks.load --help`."""

from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.live import Live

from benchmarks.load.processes import run_load
from benchmarks.load.record import write_json, write_plot
from benchmarks.load.settings import LoadSettings
from benchmarks.load.table import as_table, is_at_its_limit
from benchmarks.load.tally import Tally
from unroll.cli import run
from unroll.client.client import Client
from unroll.client.options import GenerateOptions
from unroll.client.results import ModelInfo
from unroll.errors import EngineError, UnrollError

ANSWER_SECONDS = 10.0
INTERRUPTED = 130  # what a shell calls a process that Ctrl-C ended


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and load the server."""
    try:
        run(LoadSettings, load, name="python -m benchmarks.load", tokens=tokens)
    except KeyboardInterrupt:  # before anything was measured
        raise SystemExit(INTERRUPTED) from None


def load(settings: LoadSettings) -> None:
    """Load a server, show what comes of it, and write what was asked for.

    Raises:
        SettingsError: a setting is out of its range.
        UnavailableError: there is no server.
        InputError: the server refuses such requests.
        UnrollError: no request was answered.
    """
    settings.validate()
    model = try_server(settings)
    console = Console()
    with Live(as_table(settings, Tally()), console=console, auto_refresh=False) as live:
        tally = run_load(settings, lambda seen: live.update(as_table(settings, seen), refresh=True))
        live.update(as_table(settings, tally), refresh=True)
    if is_at_its_limit(settings, tally):
        console.print("The generator itself was busy all the time: raise --processes.")
    if settings.json is not None:
        write_json(settings.json, settings, model, tally)
    if settings.plot is not None:
        write_plot(settings.plot, settings, tally)
    if tally.errors and not tally.requests:
        raise UnrollError(f"{settings.target}: every request failed: {dict(tally.errors)}")


def try_server(settings: LoadSettings) -> ModelInfo:
    """Describe the model that will answer, and see that it takes such requests.

    Raises:
        UnrollError: there is no server or no such model, or the requests are wrong.
    """
    options = GenerateOptions(
        model=settings.model, max_new_symbols=settings.new_symbols, temperature=settings.temperature
    )
    with Client(settings.target) as client:
        model = client.get_model(settings.model, timeout=ANSWER_SECONDS)
        with suppress(EngineError):  # a server that is full is one to measure
            next(client.stream(settings.prompt, options, timeout=ANSWER_SECONDS))
    return model


if __name__ == "__main__":
    main()
