"""The verdict in words: each sentence is made from figures, and says which."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from report.measures.texts import Share, TextMeasures
from report.page.facts import Comparison, Facts, differ

FAR = 50  # steps, about a window of training
VANISHED, EXPLODED = 1e-3, 2.0  # what is left of a gradient after FAR steps
NEAR = 1.1  # ratio of speeds, memories or gradients up to which they count as alike
GAP = 0.05  # nats; a smaller one is no overfitting worth the name
COPIED, COPIED_MORE = 1.5, 10  # a copy is no chance if it is so many times real text's and more
WORSE = 0.01  # nats that validation has risen again at the end


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question and its answer.

    Attributes:
        title: the question's subject.
        sentences: the answer.
    """

    title: str
    sentences: list[str]


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """One measure of texts.

    Attributes:
        name: how it is called in a sentence.
        of: the measure.
    """

    name: str
    of: Callable[[TextMeasures], Share | None]


ASPECTS = (
    Aspect(name="words that exist", of=lambda texts: texts.words),
    Aspect(name="four-word runs repeated", of=lambda texts: texts.repeats),
    Aspect(name="quotation marks and brackets closed", of=lambda texts: texts.closed),
)


def verdict(comparison: Comparison) -> list[Section]:
    """Answer the lab's questions, and say where there is no answer."""
    return [
        Section(title="Which text is better?", sentences=_texts(comparison)),
        Section(title="Which model predicts better?", sentences=_prediction(comparison)),
        Section(title="Was anything learned by heart?", sentences=_copies(comparison)),
        Section(title="How did the trainings differ?", sentences=_trainings(comparison)),
        Section(title="How far back does each reach?", sentences=_memory(comparison)),
    ]


def listed(names: Sequence[str]) -> str:
    """Join names: 'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def the(models: Sequence[Facts]) -> str:
    """Name models, with an article each."""
    return listed([f"the {model.title}" for model in models])


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.1f} %"


def _prediction(comparison: Comparison) -> list[str]:
    models, differences = comparison.models, comparison.differences
    astray = [model for model in models if model.calm_loss is not None]
    order = sorted(range(len(models)), key=lambda i: models[i].loss)
    order = [i for i in order if models[i] not in astray] or order
    best = order[0]
    behind = [i for i in order[1:] if differences[best][i].is_measurable]
    alike = [i for i in order if i not in behind]
    figures = listed([_loss(models[i]) for i in alike])
    if len(alike) == 1:
        sentences = [f"{_capital(the([models[best]]))} predicts unseen text best: {figures}."]
    else:
        widest = max((differences[best][i] for i in alike[1:]), key=lambda d: d.value)
        who = the([models[i] for i in alike])
        sentences = [
            f"{_capital(who)} predict unseen text equally well as far as this text can tell: "
            f"{figures}; the difference of {widest.value:.3f} ± {widest.error:.3f} nats is "
            "within what chance does."
        ]
    for i in behind:
        difference = differences[best][i]
        sentences.append(
            f"{_capital(the([models[i]]))} is {difference.value:.3f} ± {difference.error:.3f} "
            f"nats behind ({_loss(models[i])}): it gives each character of the true text "
            f"{percent(1 - math.exp(-difference.value))} less probability on average."
        )
    for model in astray:
        sentences.append(
            f"The {model.title} lost its way in {model.runaways} of the stretches that were read: "
            "its carried state went where training never took it, and its loss is "
            f"{_loss(model)} with them, {model.calm_loss:.3f} nats without."
        )
    return sentences


def _loss(model: Facts) -> str:
    return f"{model.loss:.3f} nats a character ({model.loss / math.log(2):.2f} bits)"


def _texts(comparison: Comparison) -> list[str]:
    models, sentences = comparison.models, []
    wins = [0] * len(models)
    separating = []
    for aspect in ASPECTS:
        pairs = _nearer(comparison, aspect)
        for better, worse in pairs:
            wins[better] += 1
            wins[worse] -= 1
        if pairs:
            separating.append((aspect, pairs))
    leaders = [i for i, won in enumerate(wins) if won == max(wins)]
    if not separating:
        sentences.append(
            "No text is measurably better: in none of the measures do two models differ by more "
            "than twice what chance does."
        )
    elif len(leaders) == 1:
        names = [aspect.name for aspect, pairs in separating if _has(pairs, leaders[0])]
        sentences.append(
            f"{_capital(the([models[leaders[0]]]))} writes the better text: it is nearer to real "
            f"text in {listed(names)}."
        )
    else:
        who = the([models[i] for i in leaders])
        if len(leaders) == len(models):
            sentences.append(f"No text is better on the whole: {who} lead in different measures.")
        else:
            others = [model for i, model in enumerate(models) if i not in leaders]
            sentences.append(
                f"{_capital(who)} write equally good texts on the whole, better ones than "
                f"{the(others)}."
            )
    sentences += [_figures(comparison, aspect) for aspect in ASPECTS]
    return sentences


def _has(pairs: list[tuple[int, int]], model: int) -> bool:
    return any(better == model for better, _ in pairs)


def _nearer(comparison: Comparison, aspect: Aspect) -> list[tuple[int, int]]:
    """List the pairs (i, j) in which i is measurably nearer to real text than j."""
    shares = [aspect.of(model.texts) for model in comparison.models]
    real = aspect.of(comparison.reference)
    if real is None:
        return []
    return [
        (i, j)
        for i, first in enumerate(shares)
        for j, second in enumerate(shares)
        if first is not None
        and second is not None
        and differ(first, second)
        and abs(first.value - real.value) < abs(second.value - real.value)
    ]


def _figures(comparison: Comparison, aspect: Aspect) -> str:
    shares = [(model, aspect.of(model.texts)) for model in comparison.models]
    real = aspect.of(comparison.reference)
    if real is None or all(share is None for _, share in shares):
        return f"{_capital(aspect.name)}: there are none to count."
    told = [
        f"{model.title} {percent(share.value) if share else 'none to count'}"
        for model, share in shares
    ]
    alike = "" if _nearer(comparison, aspect) else "; no two of them differ measurably"
    return f"{_capital(aspect.name)}: {', '.join(told)}; real text {percent(real.value)}{alike}."


def _copies(comparison: Comparison) -> list[str]:
    """Compare the longest copies with the longest one that real text has by chance."""
    real = len(comparison.reference.copy)
    copied = [m for m in comparison.models if len(m.texts.copy) > COPIED * real + COPIED_MORE]
    told = listed([f"{len(m.texts.copy)} ({m.title})" for m in comparison.models])
    lead = (
        f"{_capital(the(copied))} recited: its longest copy is no chance."
        if len(copied) == 1
        else f"{_capital(the(copied))} recited: their longest copies are no chance."
        if copied
        else "None recited what it had read."
    )
    return [
        lead,
        f"The longest runs of characters that stand word for word in the training text are {told}; "
        f"as much real text that was held out shares {real} with it. (Called reciting: more than "
        f"{COPIED:g} times that and {COPIED_MORE} more.)",
    ]


def _trainings(comparison: Comparison) -> list[str]:
    models = comparison.models
    return [
        *_speed(models),
        _overfitting(models),
        *_end(models),
        *_explosions(models),
        _gradients(models),
    ]


def _speed(models: list[Facts]) -> list[str]:
    order = sorted(models, key=lambda model: -model.speed)
    told = listed(
        [f"{m.speed:,.0f} ({m.title}, {m.characters / 1e6:.2f} million in all)" for m in order]
    )
    ratio = order[0].speed / order[-1].speed
    lead = (
        "All read about equally fast."
        if ratio <= NEAR
        else f"{_capital(the(order[:1]))} read fastest, {ratio:.1f} times as fast as "
        f"{the(order[-1:])}."
    )
    return [lead, f"Characters a second: {told}."]


def _overfitting(models: list[Facts]) -> str:
    order = sorted(models, key=lambda model: -model.gap)
    told = listed([f"{m.gap:+.3f} ({m.title})" for m in order])
    fitted = [model for model in order if model.gap > GAP]
    if not fitted:
        what = f"none overfits: at most {GAP:g}"
    elif len(fitted) == len(models):
        what = f"all know the training text better than unseen text, most of all {the(fitted[:1])}"
    else:
        verb = "know" if len(fitted) > 1 else "knows"
        what = f"{the(fitted)} {verb} the training text better than unseen text"
    return f"Loss on unseen text less loss on training text, in nats: {told}; {what}."


def _end(models: list[Facts]) -> list[str]:
    risen = [model for model in models if model.last - model.lowest > WORSE]
    return [
        f"{_capital(the([m]))} was at its best after {percent(m.best_at)} of its time; by the end "
        f"its validation loss had risen by {m.last - m.lowest:.3f} nats."
        for m in risen
    ] or ["Each was at its best, or within 0.01 nats of it, at its end."]


def _explosions(models: list[Facts]) -> list[str]:
    exploded = [model for model in models if model.rollbacks]
    if not exploded:
        return ["None exploded."]
    told = listed([f"{m.title} {_times(m.rollbacks)}" for m in exploded])
    return [
        f"Some trainings exploded and went back, each time halving the learning rate: {told}.",
        *(
            f"That of the {m.title} then exploded again and was given up before its time; all that "
            "is said of it here is said of the best weights it had until then."
            for m in models
            if m.given_up
        ),
    ]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _gradients(models: list[Facts]) -> str:
    order = sorted(models, key=lambda model: -model.gradient_high)
    told = listed(
        [
            f"{m.gradient_median:.2f} and {m.gradient_high:.2f} ({m.title}, "
            f"{percent(m.clipped)} cut)"
            for m in order
        ]
    )
    rough = sorted(models, key=lambda model: -model.roughness)
    ratio = rough[0].roughness / max(rough[-1].roughness, 1e-12)
    step = (
        f"the loss of {the(rough[:1])} jumped most from update to update, by "
        f"{rough[0].roughness:.3f} nats (that of {the(rough[-1:])} by {rough[-1].roughness:.3f})"
        if ratio > NEAR
        else f"their losses jumped alike from update to update, by {rough[0].roughness:.3f} nats"
    )
    return f"Norm of the gradient, median and 95th percentile: {told}; {step}."


def _memory(comparison: Comparison) -> list[str]:
    models, reach = comparison.models, comparison.memory_reach
    order = sorted(models, key=lambda m: -(m.memory or reach + 1))
    told = listed([f"{_length(m.memory, reach)} ({m.title})" for m in order])
    first, last = (m.memory or reach + 1 for m in (order[0], order[-1]))
    leaders = [m for m in order if NEAR * (m.memory or reach + 1) >= first]
    if first <= NEAR * last:
        lead = "All remember about equally far."
    else:
        verb = "remember" if len(leaders) > 1 else "remembers"
        lead = f"{_capital(the(leaders))} {verb} longest."
    return [
        lead,
        f"Symbols after which another past no longer changes the prediction: {told}.",
        *(_decay(model) for model in models),
    ]


def _length(memory: int | None, reach: int) -> str:
    return f"more than {reach}" if memory is None else str(memory)


def _decay(model: Facts) -> str:
    parts = [
        f"by {_factor(model.decay_before[name])} before training and by {_factor(after)} after"
        + (f" through {name}" if len(model.decay) > 1 else "")
        for name, after in model.decay.items()
    ]
    return (
        f"{_capital(the([model]))}: each step back multiplies the gradient {listed(parts)}"
        f"{_fate(model)}."
    )


def _factor(factor: float | None) -> str:
    return "0" if factor is None else f"{factor:.3f}"


def _fate(model: Facts) -> str:
    """Say what the slowest way back comes to after FAR steps."""
    factors = [factor for factor in model.decay.values() if factor is not None]
    if not factors:
        return "; it vanishes at once"
    left = max(factors) ** FAR
    if left > EXPLODED:
        return f"; it explodes, {left:.3g}-fold in {FAR} steps"
    if left < VANISHED:
        return f"; it vanishes: {left:.0e} of it is left after {FAR} steps"
    return f"; {left:.2g} of it is left after {FAR} steps"
