"""Everything that a report says about its models, measured on text that they have not seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from report.material import Texts, cut, passage
from report.measures.colouring import Coloured, colour
from report.measures.gradients import Norms, gradient_norms
from report.measures.memory import Memory, measure_memory, spread
from report.measures.problems import Problems, show_problems
from report.measures.surprise import Difference, compare, surprise
from report.measures.texts import Source, TextMeasures, measure_texts, words
from report.measures.writing import write
from report.subject import Subject

Floats = NDArray[np.float64]

TEMPERATURES = (0.5, 0.8, 1.0)
SAMPLES, SAMPLE_SYMBOLS = 8, 1000  # that texts are measured on, at each temperature
SHOWN_SYMBOLS = 400  # of a sample on the page
STRETCHES, WARM_UP = 16, 100  # of the held-out text, for the loss and its error
GRADIENT_TEXTS, GRADIENT_PAST, GRADIENT_REACH = 64, 50, 100
MEMORY_TEXTS, MEMORY_PAST, MEMORY_REACH = 64, 200, 200


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one model.

    Attributes:
        subject: the model.
        nats: surprise on the held-out text, (stretches, symbols).
        training_nats: the same on the end of the training text, as long.
        samples: texts at each moment and temperature.
        texts: measures of longer texts at each temperature.
        before: gradient norms of the untrained model.
        after: gradient norms of the best one.
        memory: of the best one.
        passage: surprise at each symbol of a passage.
    """

    subject: Subject
    nats: Floats
    training_nats: Floats
    samples: list[list[str]]
    texts: list[TextMeasures]
    before: Norms
    after: Norms
    memory: Memory
    passage: Floats

    @property
    def loss(self) -> float:
        """Mean surprise on the held-out text, nats per character."""
        return float(self.nats.mean())

    @property
    def training_loss(self) -> float:
        """Mean surprise on a part of the training text, nats per character."""
        return float(self.training_nats.mean())

    @property
    def plain(self) -> TextMeasures:
        """Measures of its texts at temperature 1, the model's own distribution."""
        return self.texts[TEMPERATURES.index(1.0)]


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """All of it.

    Attributes:
        texts: the corpus.
        models: in the order of their training.
        reference: measures of held-out text, cut like the models' texts.
        passage: the held-out text that surprise is shown on.
        coloured: a passage for each trait that the text has.
        missing: traits that are too rare in it.
        problems: by the model of the lowest loss.
    """

    texts: Texts
    models: list[Measured]
    reference: TextMeasures
    passage: str
    coloured: list[Coloured]
    missing: list[str]
    problems: Problems

    def difference(self, better: int, worse: int) -> Difference:
        """Return by how much one model's loss is lower than another's."""
        return compare(self.models[better].nats, self.models[worse].nats)


def measure(
    texts: Texts, subjects: list[Subject], seed: int, say: Callable[[str], None]
) -> Measurements:
    """Measure models of one corpus.

    Args:
        texts: what they were trained on, and what not.
        subjects: the models, at least two.
        seed: of the texts that they write.
        say: is told what goes on.
    """
    source, lexicon = Source(texts.training), set(words(texts.training))
    models = []
    for subject in subjects:
        say(f"measuring the {subject.title}")
        models.append(_measure(subject, texts, source, lexicon, seed))
    say("looking for units that track something")
    coloured, missing = colour(subjects, texts)
    best = min(models, key=lambda each: each.loss)
    return Measurements(
        texts=texts,
        models=models,
        reference=measure_texts(cut(texts.held_out, SAMPLES, SAMPLE_SYMBOLS), source, lexicon),
        passage=passage(texts, lead=MEMORY_PAST)[MEMORY_PAST:],
        coloured=coloured,
        missing=missing,
        problems=show_problems(best.subject, best.nats, texts, seed),
    )


def _measure(
    subject: Subject, texts: Texts, source: Source, lexicon: set[str], seed: int
) -> Measured:
    def ids(text: str) -> Tensor:
        return torch.from_numpy(subject.best.vocabulary.encode(text))

    def nats(text: str, streams: int = STRETCHES, warm_up: int = WARM_UP) -> Floats:
        return surprise(model, ids(text), streams=streams, warm_up=warm_up)

    held_out, model = ids(texts.held_out), subject.best.model()
    windows = spread(held_out, GRADIENT_TEXTS, GRADIENT_PAST + GRADIENT_REACH + 2)
    return Measured(
        subject=subject,
        nats=nats(texts.held_out),
        training_nats=nats(texts.training[-len(texts.held_out) :]),
        samples=_samples(subject, seed),
        texts=[measure_texts(each, source, lexicon) for each in _write(subject, seed)],
        before=gradient_norms(subject.untrained.model(), windows, past=GRADIENT_PAST),
        after=gradient_norms(model, windows, past=GRADIENT_PAST),
        memory=measure_memory(
            model, held_out, rows=MEMORY_TEXTS, past=MEMORY_PAST, reach=MEMORY_REACH
        ),
        passage=nats(passage(texts, lead=MEMORY_PAST), streams=1, warm_up=MEMORY_PAST)[0],
    )


def _samples(subject: Subject, seed: int) -> list[list[str]]:
    return [write(m, None, SHOWN_SYMBOLS, TEMPERATURES, seed) for m in subject.moments]


def _write(subject: Subject, seed: int) -> list[list[str]]:
    """Write SAMPLES texts at each temperature."""
    temperatures = np.repeat(TEMPERATURES, SAMPLES).tolist()
    texts = write(subject.best, None, SAMPLE_SYMBOLS, temperatures, seed)
    return [texts[start : start + SAMPLES] for start in range(0, len(texts), SAMPLES)]
