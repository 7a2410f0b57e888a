"""Everything that a report says about its models, measured on text that they have not seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from report.gradients import Norms, gradient_norms
from report.memory import Memory, measure_memory
from report.subject import Subject
from report.surprise import Difference, compare, surprise
from report.texts import Source, TextMeasures, measure_texts, words
from report.traits import TRAITS, Trait
from report.units import Activations, Found, activations, find_unit
from report.writing import write
from serving.errors import CorpusError
from training.checkpoint import Checkpoint
from training.corpus import Corpus
from training.data import prepare_data
from training.model import CharRNN
from training.settings import TrainingSettings

Floats = NDArray[np.float64]

TEMPERATURES = (0.5, 0.8, 1.0)
SAMPLES, SAMPLE_SYMBOLS = 8, 1000  # that texts are measured on, at each temperature
SHOWN_SYMBOLS = 400  # of a sample on the page
STRETCHES, WARM_UP = 16, 100  # of the held-out text, for the loss and its error
UNIT_STREAMS, UNIT_STEPS = 16, 500  # of a stretch that units are chosen or judged on
GRADIENT_TEXTS, GRADIENT_PAST, GRADIENT_REACH = 64, 50, 100
MEMORY_TEXTS, MEMORY_PAST, MEMORY_REACH = 64, 200, 200
PASSAGE = 500  # symbols of a coloured text
LIKELIEST = 6
HELD_OUT_AT_LEAST = 4_000  # symbols


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The corpus, as all models saw it.

    Attributes:
        corpus: name and text.
        training: what they were trained on.
        held_out: what they were not trained on.
    """

    corpus: Corpus
    training: str
    held_out: str


@dataclass(frozen=True, kw_only=True)
class Coloured:
    """A passage and how one unit of each model goes through it.

    Attributes:
        text: the passage.
        holds: the trait after each symbol, NaN where it has none, (symbols,).
        found: the unit of each model.
        untrained: score of the best unit of each model before its training, found the same way.
        values: that unit after each symbol, in [-1, 1], high where the trait should be; for each
            model (symbols,).
    """

    text: str
    holds: Floats
    found: list[Found]
    untrained: list[float]
    values: list[Floats]


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


@dataclass(frozen=True, kw_only=True)
class Problems:
    """The lab's problem types that need no other section, by one model.

    Attributes:
        by: title of the model.
        after: symbols, each with the likeliest next ones and their probabilities (one to one).
        first: a symbol that the model writes on from.
        written: what it wrote (one to many).
        prompt: a held-out text.
        continued: what it wrote after that (many to many, unaligned).
        truth: how the text really goes on.
        by_position: mean surprise at the symbol between words and at letters 1, 2, ... of a word,
            nats (many to many, aligned).
    """

    by: str
    after: list[tuple[str, list[tuple[str, float]]]]
    first: str
    written: str
    prompt: str
    continued: str
    truth: str
    by_position: Floats


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


def read_texts(corpus: Corpus, settings: TrainingSettings) -> Texts:
    """Cut the corpus as a training with these settings does.

    Raises:
        CorpusError: it is too short to hold back enough.
    """
    data = prepare_data(corpus, settings)
    kept = 0 if data.validation is None else len(data.validation)
    if kept < HELD_OUT_AT_LEAST or len(set(corpus.text[-kept:])) < 2:
        raise CorpusError(
            f"corpus {corpus.name}: {kept:,} symbols are held out, a report needs "
            f"{HELD_OUT_AT_LEAST:,} and two different ones among them; take a text of "
            f"{10 * HELD_OUT_AT_LEAST:,} symbols or more"
        )
    return Texts(corpus=corpus, training=corpus.text[:-kept], held_out=corpus.text[-kept:])


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
    coloured, missing = _colour(subjects, texts)
    best = min(models, key=lambda each: each.loss)
    return Measurements(
        texts=texts,
        models=models,
        reference=measure_texts(_cut(texts.held_out), source, lexicon),
        passage=_passage(texts)[MEMORY_PAST:],
        coloured=coloured,
        missing=missing,
        problems=_problems(best, texts, seed),
    )


def _ids(subject: Subject, text: str) -> Tensor:
    return torch.from_numpy(subject.best.vocabulary.encode(text))


def _cut(text: str) -> list[str]:
    """Cut passages as long as a model's texts out of a text, evenly, each from a paragraph on."""
    symbols = min(SAMPLE_SYMBOLS, len(text))
    starts = np.linspace(0, len(text) - symbols, SAMPLES).round().astype(int)
    blanks = [text.rfind("\n\n", 0, start) for start in starts]
    begins = [b + 2 if b >= 0 else s for b, s in zip(blanks, starts, strict=True)]
    return [text[begin : begin + symbols] for begin in begins]


def _passage(texts: Texts) -> str:
    """Return the text to show, after MEMORY_PAST symbols to read first; it starts a line."""
    middle = len(texts.held_out) // 2
    start = texts.held_out.find("\n", middle, middle + MEMORY_PAST) + 1 or middle
    return texts.held_out[start - MEMORY_PAST : start + PASSAGE]


def _measure(
    subject: Subject, texts: Texts, source: Source, lexicon: set[str], seed: int
) -> Measured:
    held_out = _ids(subject, texts.held_out)
    training = _ids(subject, texts.training[-len(texts.held_out) :])
    model, untrained = subject.best.model(), subject.untrained.model()
    passage = _ids(subject, _passage(texts))
    return Measured(
        subject=subject,
        nats=surprise(model, held_out, streams=STRETCHES, warm_up=WARM_UP),
        training_nats=surprise(model, training, streams=STRETCHES, warm_up=WARM_UP),
        samples=_samples(subject, seed),
        texts=[measure_texts(each, source, lexicon) for each in _write(model, subject, seed)],
        before=gradient_norms(untrained, _windows(held_out), past=GRADIENT_PAST),
        after=gradient_norms(model, _windows(held_out), past=GRADIENT_PAST),
        memory=measure_memory(
            model, held_out, rows=MEMORY_TEXTS, past=MEMORY_PAST, reach=MEMORY_REACH
        ),
        passage=surprise(model, passage, streams=1, warm_up=MEMORY_PAST)[0],
    )


def _windows(ids: Tensor) -> Tensor:
    length = GRADIENT_PAST + GRADIENT_REACH + 2
    starts = torch.linspace(0, len(ids) - length, GRADIENT_TEXTS).long()
    return torch.stack([ids[start : start + length] for start in starts], 1)


def _write(model: CharRNN, subject: Subject, seed: int) -> list[list[str]]:
    """Write SAMPLES texts at each temperature."""
    vocabulary = subject.best.vocabulary
    texts = write(
        model,
        vocabulary,
        prompt=vocabulary.start_symbol,
        symbols=SAMPLE_SYMBOLS,
        temperatures=np.repeat(TEMPERATURES, SAMPLES).tolist(),
        seed=seed,
    )
    return [texts[start : start + SAMPLES] for start in range(0, len(texts), SAMPLES)]


def _samples(subject: Subject, seed: int) -> list[list[str]]:
    return [
        write(
            moment.model(),
            moment.vocabulary,
            prompt=moment.vocabulary.start_symbol,
            symbols=SHOWN_SYMBOLS,
            temperatures=list(TEMPERATURES),
            seed=seed,
        )
        for moment in subject.moments
    ]


def _colour(subjects: list[Subject], texts: Texts) -> tuple[list[Coloured], list[str]]:
    half = min(len(texts.held_out) // 2, UNIT_STREAMS * UNIT_STEPS)
    choose_text, judge_text = texts.held_out[:half], texts.held_out[-half:]
    warm_up = min(WARM_UP, half // UNIT_STREAMS // 2)

    def over(text: str, checkpoint: Checkpoint) -> Activations:
        ids = torch.from_numpy(checkpoint.vocabulary.encode(text))
        return activations(checkpoint.model(), ids, streams=UNIT_STREAMS, warm_up=warm_up)

    def find(trait: Trait, pairs: list[tuple[Activations, Activations]]) -> list[Found]:
        found = [find_unit(trait, c, choose_text, j, judge_text) for c, j in pairs]
        return [each for each in found if each is not None]

    both = [
        [(over(choose_text, each), over(judge_text, each)) for each in checkpoints]
        for checkpoints in (
            [subject.best for subject in subjects],
            [subject.untrained for subject in subjects],
        )
    ]
    judge = [judged for _, judged in both[0]]
    coloured, missing = [], []
    for trait in TRAITS:
        trained, untrained = (find(trait, pairs) for pairs in both)
        if not trained:
            missing.append(trait.name)
            continue
        start, stop = _varied(trait, judge[0], judge_text)
        coloured.append(
            Coloured(
                text="".join(judge_text[place] for place in judge[0].places[start:stop]),
                holds=trait.of(judge_text)[judge[0].places[start:stop]],
                found=trained,
                untrained=[each.score for each in untrained],
                values=[
                    _scaled(over.values[:, each.unit] * each.sign)[start:stop]
                    for over, each in zip(judge, trained, strict=True)
                ],
            )
        )
    return coloured, missing


def _varied(trait: Trait, over: Activations, text: str) -> tuple[int, int]:
    """Find the rows of a passage in which the trait changes most often."""
    per_stream = len(over.places) // UNIT_STREAMS
    length = min(PASSAGE, per_stream)
    values = np.nan_to_num(trait.of(text)[over.places])
    starts = [
        stream * per_stream + offset
        for stream in range(UNIT_STREAMS)
        for offset in range(0, per_stream - length + 1, 50)
    ]
    changes = [int(np.count_nonzero(np.diff(values[s : s + length]))) for s in starts]
    start = starts[int(np.argmax(changes))]
    return start, start + length


def _scaled(values: NDArray[np.float32]) -> Floats:
    """Bring a unit's values to [-1, 1]: all but the lowest and the highest twentieth inside."""
    low, high = np.percentile(values, [5, 95])
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-9)
    scaled: Floats = np.clip((values - middle) / half, -1, 1).astype(np.float64)
    return scaled


def _problems(best: Measured, texts: Texts, seed: int) -> Problems:
    subject, vocabulary = best.subject, best.subject.best.vocabulary
    model = subject.best.model()
    capitals = [s for s in texts.held_out if s.isupper()]
    first = max(sorted(set(capitals)), key=capitals.count) if capitals else texts.held_out[0]
    place = len(texts.held_out) // 3
    prompt = texts.held_out[place - MEMORY_PAST : place]

    def on(start: str, row: int) -> str:
        return write(
            model, vocabulary, prompt=start, symbols=200, temperatures=[0.8], seed=seed + row
        )[0]

    return Problems(
        by=subject.title,
        after=[(symbol, _likeliest(model, subject, symbol)) for symbol in _frequent(texts)],
        first=first,
        written=on(first, 100),
        prompt=prompt,
        continued=on(prompt, 101),
        truth=texts.held_out[place : place + MEMORY_PAST],
        by_position=_by_position(best, texts),
    )


def _frequent(texts: Texts) -> list[str]:
    """Return a rare letter, the commonest letter and a mark, of those that the text has."""
    wanted = ["q", "t", ","]
    return [s for s in wanted if s in texts.training] or sorted(set(texts.training))[:3]


@torch.no_grad()
def _likeliest(model: CharRNN, subject: Subject, symbol: str) -> list[tuple[str, float]]:
    logits, _ = model(_ids(subject, symbol)[:, None], model.zero_state(1))  # (1, 1, V)
    probabilities, ids = F.softmax(logits[0, 0], 0).topk(min(LIKELIEST, logits.shape[-1]))
    symbols = subject.best.vocabulary.symbols
    return [(symbols[i], float(p)) for i, p in zip(ids.tolist(), probabilities, strict=True)]


def _by_position(best: Measured, texts: Texts) -> Floats:
    """Average surprise over symbols between words (0) and over letters 1 to 9 of a word."""
    length = len(texts.held_out) // STRETCHES
    position = next(t for t in TRAITS if t.name == "position in the word").of(texts.held_out)
    cut = position[: STRETCHES * length].reshape(STRETCHES, length)[:, WARM_UP:]
    means = [best.nats[cut == p].mean() if (cut == p).any() else np.nan for p in range(10)]
    return np.array(means)
