"""The page: HTML that holds all it needs, and the same as Markdown with pictures."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from report.authors.authors import Verdicts
from report.measures import measurements as sizes
from report.measures.colouring import Coloured
from report.measures.measurements import TEMPERATURES, Measured, Measurements
from report.measures.memory import THRESHOLD
from report.page import tables
from report.page.charts import charts, coloured_text
from report.page.verdict import verdict

HTML, MARKDOWN, FIGURES = "index.html", "report.md", "images"


def write_page(
    measurements: Measurements, verdicts: Verdicts, made: dict[str, str], folder: Path
) -> Path:
    """Write a report's files.

    Args:
        measurements: of the models.
        verdicts: whose text is this.
        made: how the report was made: words to show, by name (`command`, `machine`).
        folder: an existing folder.

    Returns:
        The HTML page.
    """
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    drawn, picture = charts(measurements, verdicts), coloured_text(measurements)
    for chart in [*drawn, *([picture] if picture else [])]:
        chart.png(figures / f"{chart.name}.png")
    context = _context(measurements, verdicts) | {"made": made, "figures": FIGURES}
    context["charts"] = {
        chart.name: {"alt": chart.alt, "caption": chart.caption, "svg": Markup(chart.svg())}
        for chart in drawn
    }
    context["picture"] = picture
    environment = Environment(
        loader=PackageLoader("report.page"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fenced"] = fenced
    environment.filters["cells"] = lambda row: " | ".join(cell.replace("|", r"\|") for cell in row)
    environment.filters["data"] = _data
    for template, name in (("page.html.j2", HTML), ("report.md.j2", MARKDOWN)):
        text = environment.get_template(template).render(context)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return folder / HTML


def fenced(text: str) -> str:
    """Return a text as a code block of Markdown, whatever it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _data(value: Any) -> Markup:
    """Return JSON that may stand in a script element."""
    text = json.dumps(value, ensure_ascii=False).replace("&", "\\u0026")
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e"))


def _context(measurements: Measurements, verdicts: Verdicts) -> dict[str, Any]:
    texts, models, problems = measurements.texts, measurements.models, measurements.problems
    labels = [model.subject.label for model in models]
    return {
        "corpus": texts.corpus.name,
        "symbols": f"{len(texts.training):,}",
        "held_out": f"{len(texts.held_out):,}",
        "unique": len(set(texts.corpus.text)),
        "lineup": f"{', '.join(labels[:-1])} and {labels[-1]}",
        "labels": labels,
        "tables": {
            "verdict": verdict(measurements),
            "models": tables.models(measurements),
            "by_temperature": tables.by_temperature(measurements),
            "memory": tables.memory(measurements),
            "positions": tables.positions(measurements),
            "authors": tables.authors(verdicts),
            "confusion": tables.confusion(verdicts),
        },
        "temperatures": [f"{temperature:g}" for temperature in TEMPERATURES],
        "samples": [_samples(model) for model in models],
        "moment_count": len(models[0].samples),
        "coloured": [_coloured(each, labels) for each in measurements.coloured],
        "missing": measurements.missing,
        "surprise": _surprise(measurements),
        "problems": problems,
        "after": [
            (shown(symbol), [(shown(s), f"{100 * p:.1f}", p) for s, p in likeliest])
            for symbol, likeliest in problems.after
        ],
        "first": shown(problems.first),
        "sizes": sizes,
        "threshold": THRESHOLD,
    }


def shown(symbol: str) -> str:
    """Return a symbol so that it can be seen."""
    return {"\n": "⏎", " ": "␣"}.get(symbol, symbol)


def _samples(model: Measured) -> list[dict[str, Any]]:
    course, subject = model.subject.course, model.subject
    moments = []
    for moment, texts in zip(subject.moments, model.samples, strict=True):
        read = moment.metrics.update * subject.per_update
        gone = np.interp(read, [0, *course.characters], [0, *course.seconds])
        loss = moment.metrics.validation_loss
        when = f"after {gone:.0f} s, {read:,} characters" if read else "untrained"
        moments.append({"when": f"{when}: {loss:.3f} nats", "texts": texts})
    return moments


def _coloured(coloured: Coloured, labels: list[str]) -> dict[str, Any]:
    first = coloured.found[0]
    units = zip(labels, coloured.found, coloured.untrained, coloured.values, strict=True)
    return {
        "trait": first.trait.name,
        "text": coloured.text,
        "holds": [] if first.trait.is_number else [int(value > 0) for value in coloured.holds],
        "models": [
            {
                "title": label,
                "unit": found.name,
                "score": f"{found.measure} {found.score:.3f} here, {found.chosen:.3f} where it was "
                f"chosen; best untrained unit {untrained:.3f}",
                "values": np.round(100 * values).astype(int).tolist(),
            }
            for label, found, untrained, values in units
        ],
    }


def _surprise(measurements: Measurements) -> dict[str, Any]:
    return {
        "text": measurements.passage,
        "models": [
            {
                "title": model.subject.label,
                "mean": f"{model.passage.mean() / math.log(2):.2f} bits on average",
                "values": np.round(model.passage / math.log(2), 1).tolist(),
            }
            for model in measurements.models
        ],
    }
