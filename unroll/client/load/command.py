"""The command `unroll load`."""

import sys
from collections.abc import Sequence

from rich.console import Console

from unroll.cli import in_utf8, run
from unroll.client.client import Client
from unroll.client.load.processes import run_load
from unroll.client.load.record import as_record, as_table
from unroll.client.load.settings import LoadSettings
from unroll.errors import INTERRUPTED, EngineError, UnknownSymbolError, UnrollError, counted
from unroll.options import GenerateOptions
from unroll.record import write
from unroll.results import ModelInfo

ANSWER_SECONDS = 10.0
NO_SETTING_HERE = ", or set unknown_symbols to skip or replace"
BUSY_LIMIT = 0.9  # of a generator's processor; beyond, its own speed is what is measured


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and load the server."""
    run(LoadSettings, load, name="unroll load", tokens=tokens)


def load(given: LoadSettings) -> None:
    """Load a server, show what comes of it, and write what was asked for.

    Raises:
        SettingsError: a setting is out of its range.
        UnavailableError: there is no server.
        InputError: the server refuses such requests.
        UnrollError: no request was answered.
        SystemExit: 130 after Ctrl-C, and nothing is written.
    """
    settings = in_utf8(given)
    settings.validate()
    model = try_server(settings)
    tally = run_load(settings)
    record = as_record(settings, model, tally)
    screen = Console()
    clients, most = counted(settings.clients, "client"), counted(settings.new_symbols, "symbol")
    title = f"{settings.address}: {clients}, {settings.mode.value}, at most {most} a request"
    screen.print(as_table(record, title))
    if record.generator_busy > BUSY_LIMIT:
        screen.print("The generator itself was busy all the time: raise --processes.")
    if tally.is_cut_short:
        sys.stderr.write(
            f"unroll load: interrupted after {tally.seconds:.1f} of {settings.seconds:g} s\n"
        )
        raise SystemExit(INTERRUPTED)
    if settings.json is not None:
        write(record, settings.json)
    if record.errors and not record.requests:
        raise UnrollError(f"{settings.address}: every request failed: {record.errors}")


def try_server(settings: LoadSettings) -> ModelInfo:
    """Describe the model that will answer, and see that it takes such requests.

    Raises:
        UnrollError: there is no server or no such model, or the requests are wrong.
    """
    options = GenerateOptions(model=settings.model, max_new_symbols=settings.new_symbols)
    with Client(settings.address, security=settings.security) as client:
        model = client.get_model(settings.model, timeout=ANSWER_SECONDS)
        try:
            next(client.stream(settings.prompt, options, timeout=ANSWER_SECONDS))
        except EngineError:
            pass  # a server that is full is one to measure
        except UnknownSymbolError as error:
            advice = error.problem.removesuffix(NO_SETTING_HERE)
            raise UnknownSymbolError(error.field, advice) from error
    return model
