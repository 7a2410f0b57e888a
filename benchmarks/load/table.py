"""A load's figures as a table."""

from rich.table import Table

from benchmarks.load.histogram import Histogram
from benchmarks.load.settings import LoadSettings, Mode
from benchmarks.load.tally import Tally

QUANTILES = (0.5, 0.9, 0.99)
BUSY_LIMIT = 0.9  # of a generator's processor; beyond, its own speed is what is measured


def as_table(settings: LoadSettings, tally: Tally) -> Table:
    """Show what was measured so far."""
    table = Table(title=title(settings), show_header=False, min_width=60)
    for name, *values in _rows(settings, tally):
        table.add_row(name, *values)
    return table


def title(settings: LoadSettings) -> str:
    """Name a load in a line."""
    return (
        f"{settings.target}: {settings.clients} clients, {settings.mode.value}, "
        f"{settings.new_symbols} symbols a request"
    )


def is_at_its_limit(settings: LoadSettings, tally: Tally) -> bool:
    """Whether the generator may have been slower than the server."""
    return tally.busy_seconds > BUSY_LIMIT * settings.processes * tally.seconds > 0


def _rows(settings: LoadSettings, tally: Tally) -> list[list[str]]:
    least, middle, most = tally.client_rates
    busy = tally.busy_seconds / tally.seconds if tally.seconds else 0.0
    streams = settings.mode is Mode.STREAM
    return [
        ["measured", f"{tally.seconds:.1f} of {settings.seconds:g} s"],
        ["symbols/s", f"{tally.symbols_per_second:,.0f}"],
        ["requests/s", f"{tally.requests_per_second:,.1f}"],
        ["symbols/s of a client", f"min {least:,.1f}  median {middle:,.1f}  max {most:,.1f}"],
        *([["time to first character", _quantiles(tally.first)]] if streams else []),
        *([["gap between chunks", _quantiles(tally.gaps)]] if streams else []),
        ["time of a request", _quantiles(tally.whole)],
        ["generator's processor", f"{busy:.0%} of {settings.processes} core(s)"],
        ["errors", _errors(tally)],
    ]


def _quantiles(histogram: Histogram) -> str:
    values = [histogram.quantile(part) for part in QUANTILES]
    named = zip(QUANTILES, values, strict=True)
    return "  ".join(
        f"p{part * 100:.0f} {'-' if value is None else f'{value * 1e3:,.2f} ms'}"
        for part, value in named
    )


def _errors(tally: Tally) -> str:
    counted = ", ".join(f"{code} {count:,}" for code, count in tally.errors.most_common())
    return counted or "none"
