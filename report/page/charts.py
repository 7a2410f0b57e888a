"""The charts of a report."""

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from report.authors.authors import Verdicts
from report.curves import Floats, thin
from report.measures.colouring import Coloured
from report.measures.gradients import Norms
from report.measures.measurements import Measured, Measurements
from report.measures.memory import THRESHOLD
from report.page.chart import DASHES, INK, MUTED, SERIES, Chart

EACH: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.5}  # update
SMALLEST = 1e-12  # of what is drawn on logarithmic axes
LINE = 100  # symbols of a line of coloured text
LINES = 3


def charts(measurements: Measurements, verdicts: Verdicts) -> list[Chart]:
    """Return all charts, in the order of the page."""
    models = measurements.models
    return [
        *_of_trainings(models),
        *_of_models(measurements),
        *_of_problems(measurements, verdicts),
    ]


def _of_trainings(models: list[Measured]) -> list[Chart]:
    names = _names(models)
    return [
        Chart(
            "curves", partial(_curves, models), height=3.6, columns=2, share_y=True,
            alt=f"Training and validation loss of {names}, against characters read and seconds.",
            caption="Thin: loss of each update. Thick: its rolling average. Dots: loss on held-out "
            "text. Training loss is measured with dropout, so it may lie above the other.",
        ),
        Chart(
            "updates", partial(_update_norms, models),
            height=2.7, columns=len(models), share_y=True,
            alt=f"Norm of the gradient at each update of {names}, logarithmic.",
            caption="Norm of the gradient of all weights before it is cut to the grey line. Thick: "
            "rolling average of its logarithm.",
        ),
    ]  # fmt: skip


def _of_models(measurements: Measurements) -> list[Chart]:
    models, names = measurements.models, _names(measurements.models)
    return [
        Chart(
            "gradients", partial(_gradients, models), height=3.5, columns=2, share_y=True,
            alt=f"Norm of the gradient of the loss at the state k steps back, of {names}, before "
            "and after training, logarithmic.",
            caption="How much the loss now depends on the state k steps ago. A straight line down "
            "is exponential decay: the gradient vanishes; a line up is an explosion. For the LSTM, "
            "h is what flows through the gates and c what flows through the cell.",
        ),
        Chart(
            "memory", partial(_memory, models), height=3.5, columns=2, share_y=True,
            alt=f"How much another past changes the predictions of {names}, against the number of "
            "symbols since.",
            caption="Mean KL divergence of the next symbol's distribution from what it was. Left: "
            "all that came before was another text. Right: one symbol was another. The model "
            f"has forgotten where its line stays below {THRESHOLD:g} nats.",
        ),
        Chart(
            "units", partial(_units, measurements),
            height=0.62 * max(3, len(measurements.coloured)) + 0.8,
            alt=f"Score of the best unit of {names} for each trait of the text, and of their best "
            "units before training.",
            caption="Score on text other than that on which the unit was chosen. AUC: 0.5 is "
            "chance, 1 is perfect; R²: 0 to 1. Hollow: the best unit of the untrained model, "
            "found in the same way.",
        ),
    ]  # fmt: skip


def _of_problems(measurements: Measurements, verdicts: Verdicts) -> list[Chart]:
    return [
        Chart(
            "authors", partial(_authors, verdicts), height=3.0,
            alt=f"Share of passages of {', '.join(verdicts.authors)} whose author is named "
            "rightly, against their length.",
            caption="Held-out passages; bars are two standard errors. The dashed line is chance.",
        ),
        Chart(
            "positions", partial(_positions, measurements), height=2.6,
            alt="Mean surprise at each letter of a word, in bits.",
            caption=f"Mean surprise of the {measurements.problems.by} at the symbols between words "
            "and at each letter of a word.",
        ),
    ]  # fmt: skip


def _names(models: list[Measured]) -> str:
    return ", ".join(model.subject.title for model in models)


def coloured_text(measurements: Measurements) -> Chart | None:
    """Return a picture of a text coloured by the units of the trait that is tracked best."""
    clear = [each for each in measurements.coloured if not each.found[0].trait.is_number]
    if not clear:
        return None
    best = max(clear, key=lambda each: max(found.score for found in each.found))
    trait = best.found[0].trait.name
    return Chart(
        "unit",
        partial(_coloured, best, measurements.models),
        alt=f"A text coloured by the unit of each model that tracks best: {trait}.",
        caption="The state of one unit after each symbol: orange high, blue low. Underlined: where "
        "the trait holds.",
        height=0.25 * (LINES + 1.4) * len(measurements.models) + 0.3,
    )


def _curves(models: list[Measured], axes: list[Axes]) -> None:
    tops = []
    for number, model in enumerate(models):
        course, color = model.subject.course, SERIES[number]
        _, part, average = course.average()
        scales = [
            (course.characters, course.validation_characters),
            (course.seconds, course.validation_seconds),
        ]
        for each, (x, validated) in zip(axes, scales, strict=True):
            draw_curve(each, x, course.loss, color=color, **EACH)
            dashes, label = DASHES[number], model.subject.label
            draw_curve(each, x[part], average, linestyle=dashes, color=color, label=label)
            each.plot(validated, course.validation_loss, "o", color=color, markersize=3.2)
        tops.append(float(np.percentile(course.loss, 98)))
        tops.append(float(course.validation_loss.max()))
    lowest = min(
        min(m.subject.course.loss.min(), m.subject.course.validation_loss.min()) for m in models
    )
    left = "nats per character"
    axes[0].set(xlabel="characters read", ylabel=left, title="Against what was read")
    axes[0].set_ylim(float(lowest) - 0.05, max(tops) + 0.1)
    axes[0].xaxis.set_major_formatter(lambda value, _: _short(value))
    axes[1].set(xlabel="seconds", title="Against time")
    axes[1].legend()


def draw_curve(axes: Axes, x: Floats, y: Floats, **style: Any) -> None:
    """Draw a curve; of a training that came to one update, a dot, since a line needs two."""
    axes.plot(thin(x), thin(y), marker="o" if len(x) == 1 else "", **style)


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def _update_norms(models: list[Measured], axes: list[Axes]) -> None:
    for number, (each, model) in enumerate(zip(axes, models, strict=True)):
        course, color = model.subject.course, SERIES[number]
        norms = np.maximum(course.gradient_norm, SMALLEST)
        width, part, _ = course.average()
        smooth = np.convolve(np.log(norms), np.ones(width) / width, "valid")
        draw_curve(each, course.seconds, norms, color=color, **EACH)
        draw_curve(each, course.seconds[part], np.exp(smooth), color=color)
        each.set_yscale("log")
        if course.gradient_clip:
            each.axhline(course.gradient_clip, color=MUTED, linewidth=1)
        each.set(xlabel="seconds", title=model.subject.label)
    axes[0].set(ylabel="norm of the gradient")
    _plain_numbers(axes[0].yaxis)


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def _gradients(models: list[Measured], axes: list[Axes]) -> None:
    for number, model in enumerate(models):
        _norm_lines(axes[0], number, model.subject.label, model.before)
        _norm_lines(axes[1], number, model.subject.label, model.after)
    left = "norm of dL(t) / dh(t - k)"
    axes[0].set(xlabel="k steps back", ylabel=left, title="Before training")
    axes[1].set(xlabel="k steps back", title="After training")
    axes[1].legend()


def _norm_lines(axes: Axes, number: int, title: str, norms: Norms) -> None:
    for style, (name, values) in zip(("-", "--"), norms.items(), strict=False):
        label = title if len(norms) == 1 else f"{title}, {name}"
        kept = np.where(values > SMALLEST, values, np.nan)
        k = np.arange(1, len(values) + 1)
        axes.semilogy(k, kept, style, color=SERIES[number], label=label)


def _memory(models: list[Measured], axes: list[Axes]) -> None:
    for number, model in enumerate(models):
        pairs = zip(axes, (model.memory.prefix, model.memory.symbol), strict=True)
        for each, values in pairs:
            kept = np.where(values > SMALLEST, values, np.nan)[1:]
            k = np.arange(1, len(values))
            each.loglog(k, kept, DASHES[number], color=SERIES[number], label=model.subject.label)
    for each in axes:
        each.axhline(THRESHOLD, color=MUTED, linewidth=1)
        each.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0].set_ylim(bottom=THRESHOLD / 100)
    axes[0].set(xlabel="symbols since", ylabel="nats", title="Another text before")
    axes[1].set(xlabel="symbols since", title="One other symbol")
    axes[0].legend()


def _units(measurements: Measurements, axes: list[Axes]) -> None:
    count, height = len(measurements.models), 0.8 / len(measurements.models)
    for row, coloured in enumerate(measurements.coloured):
        for number, found in enumerate(coloured.found):
            y = row + (number - (count - 1) / 2) * height
            label = measurements.models[number].subject.label if row == 0 else None
            axes[0].barh(y, max(found.score, 0), height * 0.9, color=SERIES[number], label=label)
            axes[0].plot(
                [max(coloured.untrained[number], 0)], [y], "o", markersize=4.5,
                markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1,
            )  # fmt: skip
            right = max(found.score, coloured.untrained[number], 0) + 0.015
            axes[0].text(right, y, f"{found.score:.2f}", va="center", color=INK)
    firsts = [each.found[0] for each in measurements.coloured]
    labels = [f"{first.trait.name} ({first.measure})" for first in firsts]
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].invert_yaxis()
    axes[0].set(xlim=(0, 1.08))
    axes[0].grid(visible=False, axis="y")
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=count)


def _coloured(coloured: Coloured, models: list[Measured], axes: list[Axes]) -> None:
    board, row = axes[0], 0.0
    board.set_axis_off()
    for number, (found, values) in enumerate(zip(coloured.found, coloured.values, strict=True)):
        title = f"{models[number].subject.label}: {found.name}, {found.measure} {found.score:.2f}"
        board.text(0, row + 0.75, title, color=SERIES[number], fontweight="bold", fontsize=9)
        row += 1.1
        for start in range(0, min(LINE * LINES, len(values)), LINE):
            for place in range(start, min(start + LINE, len(values))):
                _symbol(board, coloured, values, place, (place - start, row))
            row += 1
        row += 0.3
    board.set(xlim=(0, LINE), ylim=(row, 0))
    board.set_title(coloured.found[0].trait.name)


def _symbol(
    board: Axes, coloured: Coloured, values: np.ndarray, place: int, at: tuple[int, float]
) -> None:
    value, (x, y) = float(values[place]), at
    color = "#e8590c" if value > 0 else "#1c7ed6"
    board.add_patch(Rectangle((x, y), 1, 1, color=color, alpha=0.75 * abs(value), linewidth=0))
    symbol = coloured.text[place].replace("\n", "¶").replace("$", r"\$")
    board.text(x + 0.5, y + 0.72, symbol, ha="center", family="monospace", fontsize=7.5, color=INK)
    holds = coloured.holds[place]
    if not coloured.found[0].trait.is_number and holds > 0:
        board.plot([x, x + 1], [y + 0.93] * 2, color=INK, linewidth=1)


def _authors(verdicts: Verdicts, axes: list[Axes]) -> None:
    x, y, error = verdicts.lengths, verdicts.accuracy, 2 * verdicts.error
    axes[0].errorbar(x, y, error, fmt="o-", color=SERIES[1], capsize=3)
    axes[0].axhline(1 / len(verdicts.authors), color=MUTED, linestyle="--", linewidth=1)
    axes[0].set_xscale("log")
    axes[0].set_xticks(verdicts.lengths, [str(length) for length in verdicts.lengths])
    axes[0].minorticks_off()
    axes[0].set(xlabel="characters of the passage", ylabel="named rightly", ylim=(0, 1.03))
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def _positions(measurements: Measurements, axes: list[Axes]) -> None:
    values = measurements.problems.by_position / np.log(2)
    labels = ["between\nwords", *(str(i) for i in range(1, len(values)))]
    axes[0].bar(range(len(values)), values, color=SERIES[1], width=0.7)
    axes[0].set_xticks(range(len(values)), labels)
    axes[0].set(xlabel="letter of the word", ylabel="bits")
    axes[0].grid(visible=False, axis="x")
