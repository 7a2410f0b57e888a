"""A load's figures as JSON and as a picture."""

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from benchmarks.load.histogram import Histogram
from benchmarks.load.settings import LoadSettings
from benchmarks.load.table import QUANTILES, title
from benchmarks.load.tally import Tally
from unroll.client.results import ModelInfo


def as_record(settings: LoadSettings, tally: Tally) -> dict[str, Any]:
    """Return every setting and figure of a load as JSON knows them; durations in seconds."""
    least, middle, most = tally.client_rates
    return {
        "settings": {name: plain(value) for name, value in asdict(settings).items()},
        "seconds": tally.seconds,
        "symbols_per_second": tally.symbols_per_second,
        "requests_per_second": tally.requests_per_second,
        "client_symbols_per_second": {"min": least, "median": middle, "max": most},
        "symbols_by_client": tally.symbols,
        "requests": tally.requests,
        "errors": dict(tally.errors),
        "generator_processor_seconds": tally.busy_seconds,
        "first_character": _durations(tally.first),
        "gap": _durations(tally.gaps),
        "request": _durations(tally.whole),
    }


def write_json(path: Path, settings: LoadSettings, model: ModelInfo, tally: Tally) -> None:
    """Write a load's record and the model that answered."""
    served = {name: plain(value) for name, value in asdict(model).items() if name != "vocabulary"}
    record = {"model": served, **as_record(settings, tally)}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def write_plot(path: Path, settings: LoadSettings, tally: Tally) -> None:
    """Draw the distributions of the latencies, as PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    drawn = {
        "time to first character": tally.first,
        "gap between chunks": tally.gaps,
        "time of a request": tally.whole,
    }
    shown = {name: histogram for name, histogram in drawn.items() if histogram.total}
    figure = Figure(figsize=(8, 1 + 2.4 * max(len(shown), 1)), layout="constrained")
    figure.suptitle(title(settings))
    for place, (name, histogram) in enumerate(shown.items()):
        _draw(figure.add_subplot(len(shown), 1, place + 1), name, histogram)
    figure.savefig(path, format="png")


def _draw(axes: Any, name: str, histogram: Histogram) -> None:
    points = histogram.points()
    milliseconds = [seconds * 1e3 for seconds, _ in points]
    axes.hist(
        milliseconds,
        bins=_log_bins(milliseconds[0], milliseconds[-1]),
        weights=[count / histogram.total for _, count in points],
    )
    for part in QUANTILES:
        value = histogram.quantile(part)
        assert value is not None
        axes.axvline(value * 1e3, color="black", linewidth=0.8)
        label = f" p{part * 100:.0f} {value * 1e3:,.3g}"
        axes.text(value * 1e3, 1, label, transform=axes.get_xaxis_transform(), rotation=45)
    axes.set_xscale("log")
    axes.set_xlabel(f"{name}, milliseconds ({histogram.total:,})")
    axes.set_ylabel("part of all")


def _log_bins(low: float, high: float, count: int = 80) -> list[float]:
    low, high = low / 1.05, high * 1.05
    return [low * (high / low) ** (step / count) for step in range(count + 1)]


def plain(value: object) -> object:
    """Return a setting as JSON knows it."""
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _durations(histogram: Histogram) -> dict[str, Any]:
    quantiles = {f"p{part * 100:.0f}": histogram.quantile(part) for part in QUANTILES}
    return {**quantiles, "count": histogram.total, "histogram": histogram.points()}
