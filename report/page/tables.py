"""The tables of a report."""

import math
from dataclasses import dataclass

import numpy as np

from report.authors.authors import Verdicts
from report.measures.measurements import MEMORY_REACH, TEMPERATURES, Measured, Measurements
from report.measures.memory import THRESHOLD
from report.measures.texts import Share, TextMeasures
from training.log.progress import duration
from unroll.bundle.manifest import architecture

Row = list[str]
TEXT_HEADER = ["words that exist", "4-word runs repeated", "marks closed", "longest copy"]


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


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.1f} %"


def share_of(share: Share | None) -> str:
    """Write a measured share with its error."""
    return "none" if share is None else f"{percent(share.value)} ± {100 * share.error:.1f}"


def reach_of(length: int | None) -> str:
    """Write a memory's length in symbols."""
    return f"more than {MEMORY_REACH}" if length is None else str(length)


def models(measurements: Measurements) -> Table:
    """Tell what was trained."""
    header = ["model", "cell, hidden x layers", "weights", "learning rate", "streams x window"]
    header += ["time", "characters read", "characters/s", "explosions"]
    rows = [_model(model) for model in measurements.models]
    return Table(caption="What was trained, for equal times.", header=header, rows=rows)


def _model(model: Measured) -> Row:
    settings, course = model.subject.settings, model.subject.course
    weights = sum(tensor.numel() for tensor in model.subject.best.weights.values())
    return [
        model.subject.label,
        architecture(settings.cell, settings.hidden_size, settings.layers, settings.members),
        f"{weights:,}",
        f"{settings.learning_rate:g}",
        f"{settings.streams} x {settings.window}",
        duration(course.seconds[-1]),
        f"{course.characters[-1]:,.0f}",
        f"{course.characters_per_second:,.0f}",
        f"{course.rollbacks}{', then given up' if course.given_up else ''}",
    ]


def by_temperature(measurements: Measurements) -> Table:
    """Tell what the texts are like at every temperature, and real text."""
    rows = [
        [model.subject.label, f"{temperature:g}", *_text_row(texts)]
        for model in measurements.models
        for temperature, texts in zip(TEMPERATURES, model.texts, strict=True)
    ]
    rows.append(["real text, held out", "", *_text_row(measurements.reference)])
    header = ["model", "temperature", *TEXT_HEADER, "the copied text"]
    return Table(caption="The texts at every temperature.", header=header, rows=rows)


def _text_row(texts: TextMeasures) -> Row:
    shares = map(share_of, (texts.words, texts.repeats, texts.closed))
    return [*shares, str(len(texts.copy)), texts.copy.replace("\n", "⏎")]


def memory(measurements: Measurements) -> Table:
    """Tell how far back each model remembers."""
    header = ["model", "another text before", "one other symbol"]
    caption = f"Effective memory: symbols until the change stays below {THRESHOLD:g} nats."
    rows = [
        [m.subject.label, reach_of(m.memory.length), reach_of(m.memory.symbol_length)]
        for m in measurements.models
    ]
    return Table(caption=caption, header=header, rows=rows)


def positions(measurements: Measurements) -> Table:
    """Tell the surprise at each letter of a word."""
    values = measurements.problems.by_position / math.log(2)
    header = ["", "between words", *(f"letter {i}" for i in range(1, len(values)))]
    row = ["bits", *("none" if np.isnan(v) else f"{v:.2f}" for v in values)]
    return Table(caption="Mean surprise, in bits.", header=header, rows=[row])


def authors(verdicts: Verdicts) -> Table:
    """Tell how often the right author is named."""
    pairs = zip(verdicts.accuracy, verdicts.error, strict=True)
    return Table(
        caption=f"Passages named rightly; chance is {percent(1 / len(verdicts.authors))}.",
        header=["characters", *map(str, verdicts.lengths)],
        rows=[["named rightly", *(share_of(Share(value=a, error=e)) for a, e in pairs)]],
    )


def confusion(verdicts: Verdicts) -> Table:
    """Tell who is named for whom."""
    middle = len(verdicts.lengths) // 2
    return Table(
        caption=f"Who was named, for passages of {verdicts.lengths[middle]} characters.",
        header=["the passage is of", *(f"named: {author}" for author in verdicts.authors)],
        rows=[
            [author, *map(str, counts)]
            for author, counts in zip(verdicts.authors, verdicts.counts[middle], strict=True)
        ],
    )
