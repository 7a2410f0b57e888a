"""The lab's five problem types by one model, those of them that need no section of their own."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from report.material import Texts
from report.measures.traits import TRAITS
from report.measures.writing import write
from report.subject import Subject
from training.run.checkpoint import Checkpoint

Floats = NDArray[np.float64]

LIKELIEST = 6
PROMPT, WRITTEN = 200, 200  # symbols


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


def show_problems(subject: Subject, nats: Floats, texts: Texts, seed: int) -> Problems:
    """Show the problem types.

    Args:
        subject: the model.
        nats: its surprise on the held-out text, (stretches, symbols); what each stretch had to read
            first is left out.
        texts: the corpus.
        seed: of what it writes.
    """
    capitals = [s for s in texts.held_out if s.isupper()]
    first = max(sorted(set(capitals)), key=capitals.count) if capitals else texts.held_out[0]
    place = len(texts.held_out) // 3
    prompt = texts.held_out[place - PROMPT : place]

    return Problems(
        by=subject.title,
        after=[(symbol, _likeliest(subject.best, symbol)) for symbol in _frequent(texts)],
        first=first,
        written=write(subject.best, first, WRITTEN, [0.8], seed + 100)[0],
        prompt=prompt,
        continued=write(subject.best, prompt, WRITTEN, [0.8], seed + 101)[0],
        truth=texts.held_out[place : place + PROMPT],
        by_position=_by_position(nats, texts),
    )


def _frequent(texts: Texts) -> list[str]:
    """Return a rare letter, the commonest letter and a mark, of those that the text has."""
    wanted = ["q", "t", ","]
    return [s for s in wanted if s in texts.training] or sorted(set(texts.training))[:3]


@torch.no_grad()
def _likeliest(checkpoint: Checkpoint, symbol: str) -> list[tuple[str, float]]:
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    ids = torch.from_numpy(vocabulary.encode(symbol))
    logits, _ = model(ids[:, None], model.zero_state(1))  # (1, 1, V)
    probabilities, ids = F.softmax(logits[0, 0], 0).topk(min(LIKELIEST, logits.shape[-1]))
    return [
        (vocabulary.symbols[i], float(p)) for i, p in zip(ids.tolist(), probabilities, strict=True)
    ]


def _by_position(nats: Floats, texts: Texts) -> Floats:
    """Average surprise over symbols between words (0) and over letters 1 to 9 of a word."""
    stretches, symbols = nats.shape
    length = len(texts.held_out) // stretches
    position = next(t for t in TRAITS if t.name == "position in the word").of(texts.held_out)
    cut = position[: stretches * length].reshape(stretches, length)[:, length - symbols :]
    means = [nats[cut == p].mean() if (cut == p).any() else np.nan for p in range(10)]
    return np.array(means)
