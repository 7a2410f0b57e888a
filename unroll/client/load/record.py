"""What one load measured, as it is kept and as it is shown."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from unroll.client.load.settings import LoadSettings
from unroll.client.load.tally import Durations, Tally
from unroll.machine import describe
from unroll.record import Record, settings_of
from unroll.results import ModelInfo


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


def as_table(record: LoadRecord, title: str) -> Table:
    """Lay a load out for the terminal."""
    rates = " / ".join(f"{rate:,.1f}" for rate in record.client_rates)
    errors = ", ".join(f"{code} {count:,}" for code, count in record.errors.items())
    table = Table("", "measured", title=title)
    table.add_row("symbols/s", f"{record.symbols_per_second:,.0f}")
    table.add_row("requests/s", f"{record.requests_per_second:,.1f}")
    table.add_row("symbols/s of a client", f"{rates}, least/median/most")
    table.add_row("to the first character", _quantiles(record.first_character))
    table.add_row("between two messages", _quantiles(record.gap))
    table.add_row("for a whole text", _quantiles(record.request))
    table.add_row("generator's processors", f"{record.generator_busy:.0%} busy")
    table.add_row("errors", errors or "none")
    return table


def _quantiles(durations: Durations | None) -> str:
    return "-" if durations is None else f"{durations}, p50/p90/p99 in ms"
