"""The page: HTML that holds all it needs, and the same as Markdown with pictures."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from report.authors.authors import Verdicts
from report.measures.measurements import (
    GRADIENT_REACH,
    GRADIENT_TEXTS,
    MEMORY_PAST,
    MEMORY_REACH,
    MEMORY_TEXTS,
    SAMPLE_SYMBOLS,
    SAMPLES,
    STRETCHES,
    TEMPERATURES,
    Measured,
    Measurements,
)
from report.measures.memory import THRESHOLD
from report.measures.texts import Share, TextMeasures
from report.page.charts import charts, coloured_text
from report.page.facts import compare_all
from report.page.verdict import listed, percent, verdict
from training.log.progress import duration
from unroll.bundle.manifest import architecture

HTML, MARKDOWN, FIGURES = "index.html", "report.md", "images"
Row = list[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of strings.

    Attributes:
        caption: what it shows.
        header: titles of its columns.
        rows: the first column of each names it.
    """

    caption: str
    header: Row
    rows: list[Row]


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
    texts, models = measurements.texts, measurements.models
    problems, comparison = measurements.problems, compare_all(measurements)
    return {
        "corpus": texts.corpus.name,
        "symbols": f"{len(texts.training):,}",
        "held_out": f"{len(texts.held_out):,}",
        "unique": len(set(texts.corpus.text)),
        "verdict": verdict(comparison),
        "titles": [model.subject.title for model in models],
        "lineup": listed([model.subject.label for model in models]),
        "labels": [model.subject.label for model in models],
        "models": _models(measurements),
        "comparison": _comparison(measurements),
        "by_temperature": _by_temperature(measurements),
        "memory": _memory(measurements),
        "temperatures": [f"{temperature:g}" for temperature in TEMPERATURES],
        "samples": [_samples(model) for model in models],
        "moment_count": len(models[0].samples),
        "coloured": [
            _coloured(number, measurements) for number in range(len(measurements.coloured))
        ],
        "missing": measurements.missing,
        "surprise": _surprise(measurements),
        "problems": problems,
        "after": [
            (shown(symbol), [(shown(s), f"{100 * p:.1f}", p) for s, p in likeliest])
            for symbol, likeliest in problems.after
        ],
        "first": shown(problems.first),
        "positions": _positions(measurements),
        "authors": _authors(verdicts),
        "confusion": _confusion(verdicts),
        "definitions": {
            "threshold": f"{THRESHOLD:g}",
            "gradient_texts": GRADIENT_TEXTS,
            "gradient_reach": GRADIENT_REACH,
            "memory_texts": MEMORY_TEXTS,
            "memory_past": MEMORY_PAST,
            "memory_reach": MEMORY_REACH,
            "samples": SAMPLES,
            "sample_symbols": f"{SAMPLE_SYMBOLS:,}",
            "stretches": STRETCHES,
        },
    }


def shown(symbol: str) -> str:
    """Return a symbol so that it can be seen."""
    return {"\n": "⏎", " ": "␣"}.get(symbol, symbol)


def _models(measurements: Measurements) -> Table:
    rows = []
    for model in measurements.models:
        settings, course = model.subject.settings, model.subject.course
        weights = sum(tensor.numel() for tensor in model.subject.best.weights.values())
        rows.append(
            [
                model.subject.label,
                architecture(
                    settings.cell, settings.hidden_size, settings.layers, settings.members
                ),
                f"{weights:,}",
                f"{settings.learning_rate:g}",
                f"{settings.streams} x {settings.window}",
                duration(course.seconds[-1]),
                f"{course.characters[-1]:,.0f}",
                f"{course.characters_per_second:,.0f}",
                f"{course.rollbacks}{', then given up' if course.given_up else ''}",
            ]
        )
    header = ["model", "cell, hidden x layers", "weights", "learning rate", "streams x window"]
    header += ["time", "characters read", "characters/s", "explosions"]
    return Table(caption="What was trained, for equal times.", header=header, rows=rows)


def _comparison(measurements: Measurements) -> Table:
    rows = []
    for model in measurements.models:
        plain = model.texts[TEMPERATURES.index(1.0)]
        rows.append(
            [
                model.subject.label,
                f"{model.loss:.3f}",
                f"{model.loss / math.log(2):.3f}",
                f"{model.training_loss:.3f}",
                *_text_row(plain),
            ]
        )
    rows.append(["real text, held out", "", "", "", *_text_row(measurements.reference)])
    header = ["", "loss, nats", "bits", "on training text", *_TEXT_HEADER]
    return Table(
        caption="Loss per character, and what the texts at temperature 1 are like.",
        header=header,
        rows=rows,
    )


_TEXT_HEADER = ["words that exist", "4-word runs repeated", "marks closed", "longest copy"]


def _text_row(texts: TextMeasures) -> Row:
    return [*map(_share, (texts.words, texts.repeats, texts.closed)), f"{len(texts.copy)}"]


def _share(share: Share | None) -> str:
    return "none" if share is None else f"{percent(share.value)} ± {100 * share.error:.1f}"


def _by_temperature(measurements: Measurements) -> Table:
    rows = [
        [model.subject.label, f"{temperature:g}", *_text_row(texts), texts.copy.replace("\n", "⏎")]
        for model in measurements.models
        for temperature, texts in zip(TEMPERATURES, model.texts, strict=True)
    ]
    header = ["model", "temperature", *_TEXT_HEADER, "the copied text"]
    return Table(caption="The texts at every temperature.", header=header, rows=rows)


def _memory(measurements: Measurements) -> Table:
    rows = [
        [
            model.subject.label,
            _reach(model.memory.length),
            _reach(model.memory.symbol_length),
        ]
        for model in measurements.models
    ]
    header = ["model", "another text before", "one other symbol"]
    caption = f"Effective memory: symbols until the change stays below {THRESHOLD:g} nats."
    return Table(caption=caption, header=header, rows=rows)


def _reach(length: int | None) -> str:
    return f"more than {MEMORY_REACH}" if length is None else str(length)


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


def _coloured(number: int, measurements: Measurements) -> dict[str, Any]:
    coloured = measurements.coloured[number]
    first = coloured.found[0]
    return {
        "trait": first.trait,
        "text": coloured.text,
        "holds": [] if first.is_number else [int(value > 0) for value in coloured.holds],
        "models": [
            {
                "title": model.subject.label,
                "unit": found.name,
                "score": f"{found.measure} {found.score:.3f} here, {found.chosen:.3f} where it was "
                f"chosen; best untrained unit {untrained:.3f}",
                "values": np.round(100 * values).astype(int).tolist(),
            }
            for model, found, untrained, values in zip(
                measurements.models,
                coloured.found,
                coloured.untrained,
                coloured.values,
                strict=True,
            )
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


def _positions(measurements: Measurements) -> Table:
    values = measurements.problems.by_position / math.log(2)
    header = ["", "between words", *(f"letter {i}" for i in range(1, len(values)))]
    return Table(
        caption="Mean surprise, in bits.",
        header=header,
        rows=[["bits", *("none" if np.isnan(v) else f"{v:.2f}" for v in values)]],
    )


def _authors(verdicts: Verdicts) -> Table:
    row = [
        f"{percent(a)} ± {100 * e:.1f}"
        for a, e in zip(verdicts.accuracy, verdicts.error, strict=True)
    ]
    return Table(
        caption=f"Passages named rightly; chance is {percent(1 / len(verdicts.authors))}.",
        header=["characters", *map(str, verdicts.lengths)],
        rows=[["named rightly", *row]],
    )


def _confusion(verdicts: Verdicts) -> Table:
    middle = len(verdicts.lengths) // 2
    return Table(
        caption=f"Who was named, for passages of {verdicts.lengths[middle]} characters.",
        header=["the passage is of", *(f"named: {author}" for author in verdicts.authors)],
        rows=[
            [author, *map(str, counts)]
            for author, counts in zip(verdicts.authors, verdicts.counts[middle], strict=True)
        ],
    )
