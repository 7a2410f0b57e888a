"""Command line of the load generator: `python -m benchmarks.load --help`."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.load.processes import run_load
from benchmarks.load.settings import LoadSettings
from benchmarks.load.tally import Durations, Tally
from benchmarks.machine import describe
from benchmarks.record import Record, settings_of, write
from benchmarks.tables import Row, console, terminal
from unroll.cli import run
from unroll.client.client import Client
from unroll.client.options import GenerateOptions
from unroll.client.results import ModelInfo
from unroll.errors import EngineError, UnrollError

ANSWER_SECONDS = 10.0
INTERRUPTED = 130  # what a shell calls a process that Ctrl-C ended
BUSY_LIMIT = 0.9  # of a generator's processor; beyond, its own speed is what is measured


@dataclass(frozen=True, kw_only=True)
class LoadRecord(Record):
    """What one load measured; durations in seconds.

    Attributes:
        model: that answered.
        symbols_per_second: of all clients.
        requests_per_second: likewise.
        client_rates: symbols a second of a client: least, median, most.
        symbols_by_client: received within the time.
        requests: answered in full.
        errors: failed requests by the status's code.
        generator_busy: part of its processors' time that the generator used.
        first_character: from a request to its first character.
        gap: between two messages of a stream.
        request: from a request to the end of its answer.
    """

    model: dict[str, Any]
    symbols_per_second: float
    requests_per_second: float
    client_rates: list[float]
    symbols_by_client: list[float]
    requests: int
    errors: dict[str, int]
    generator_busy: float
    first_character: Durations | None
    gap: Durations | None
    request: Durations | None


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and load the server."""
    try:
        run(LoadSettings, load, name="python -m benchmarks.load", tokens=tokens)
    except KeyboardInterrupt:
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
    record = as_record(settings, model, run_load(settings))
    screen = console()
    title = f"{settings.target}: {settings.clients} clients, {settings.mode.value}"
    screen.print(terminal(rows(record), f"{title}, {settings.new_symbols} symbols a request"))
    if record.generator_busy > BUSY_LIMIT:
        screen.print("The generator itself was busy all the time: raise --processes.")
    if settings.json is not None:
        write(record, settings.json)
    if record.errors and not record.requests:
        raise UnrollError(f"{settings.target}: every request failed: {record.errors}")


def try_server(settings: LoadSettings) -> ModelInfo:
    """Describe the model that will answer, and see that it takes such requests.

    Raises:
        UnrollError: there is no server or no such model, or the requests are wrong.
    """
    options = GenerateOptions(model=settings.model, max_new_symbols=settings.new_symbols)
    with Client(settings.target) as client:
        model = client.get_model(settings.model, timeout=ANSWER_SECONDS)
        with suppress(EngineError):  # a server that is full is one to measure
            next(client.stream(settings.prompt, options, timeout=ANSWER_SECONDS))
    return model


def as_record(settings: LoadSettings, model: ModelInfo, tally: Tally) -> LoadRecord:
    """Put what was measured in the form in which it is kept."""
    return LoadRecord(
        machine=describe("grpcio"),
        settings=settings_of(settings),
        model={name: value for name, value in asdict(model).items() if name != "vocabulary"},
        symbols_per_second=tally.symbols_per_second,
        requests_per_second=tally.requests / tally.seconds,
        client_rates=list(tally.client_rates),
        symbols_by_client=tally.symbols,
        requests=tally.requests,
        errors=dict(tally.errors),
        generator_busy=tally.busy_seconds / tally.seconds / settings.processes,
        first_character=Durations.of(tally.first),
        gap=Durations.of(tally.gaps),
        request=Durations.of(tally.whole),
    )


def rows(record: LoadRecord) -> list[Row]:
    """Lay a load out."""
    least, middle, most = record.client_rates
    errors = ", ".join(f"{code} {count:,}" for code, count in record.errors.items())
    return [
        ["", "measured"],
        ["symbols/s", f"{record.symbols_per_second:,.0f}"],
        ["requests/s", f"{record.requests_per_second:,.1f}"],
        ["symbols/s of a client", f"{least:,.1f} / {middle:,.1f} / {most:,.1f}, least/median/most"],
        ["to the first character", f"{record.first_character or '-'}, p50/p90/p99 in ms"],
        ["between two messages", f"{record.gap or '-'}"],
        ["for a whole text", f"{record.request or '-'}"],
        ["generator's processors", f"{record.generator_busy:.0%} busy"],
        ["errors", errors or "none"],
    ]


if __name__ == "__main__":
    main()
