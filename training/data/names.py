"""Names that every epoch spells otherwise, so that a model learns what a name is, not which.

A text has few names and repeats each of them often. A model knows them by heart after some epochs
and is then surprised by any other: in the held-out part of tinyshakespeare the speakers that the
training has not met were 2 % of the symbols and 6 % of the loss. No other part of a text can be
exchanged so freely.
"""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unroll.bundle.vocabulary import Vocabulary

STRETCH = 10_000  # symbols in which a name keeps its new spelling
TRIES = 20
# Of the distinct words of English plays and prose 5 to 8 % are names. Where many more are, they are
# none: of German 26 to 30 % (its nouns), of C 37 % (macros), of FASTA 100 % (proteins).
SHARE_AT_MOST = 0.2
SYMBOLS_AT_MOST = 2**24  # more are read too seldom to be learned by heart, and slow to respell
WORD = re.compile(r"[^\W\d_]{3,}")

Spelling = tuple[NDArray[np.int64], NDArray[np.int64]]


class Names:
    """The names of a text.

    A name is a word of three letters or more that the text never writes in lower case, and
    somewhere with a capital amid a sentence, or in capitals altogether. Its new spelling has the
    first letters of one name and the last ones of another, and as many letters as before, so that
    every symbol keeps its place.

    Args:
        text: what is trained on.
        vocabulary: of the text.
        share: of the names, that are spelled otherwise; in [0, 1].
        seed: of the spellings.

    Attributes:
        known: the names in lower case, sorted.
        misfit: why this text should not be respelled; None where it may.
    """

    def __init__(self, text: str, vocabulary: Vocabulary, share: float, seed: int) -> None:
        self._vocabulary, self._share, self._seed = vocabulary, share, seed
        capital, lower, names = [], set(), set()
        for match in WORD.finditer(text):
            word = match.group()
            if word[0].isupper() and (word.isupper() or word[1:].islower()):
                capital.append((match.start(), word))
            elif word.islower():
                lower.add(word)
        for start, word in capital:
            if word.isupper() or _amid_a_sentence(text, start):
                names.add(word.lower())
        self.known = sorted(names - lower)
        self.misfit = _misfit(len(self.known), len(lower | {word.lower() for _, word in capital}))
        kept = set(self.known)
        self._places = [(start, word) for start, word in capital if word.lower() in kept]

    def respelled(self, ids: Tensor, epoch: int) -> Tensor:
        """Return the text as an epoch reads it.

        Args:
            ids: of the text's symbols, integers, (symbols,).
            epoch: from 0; with the seed it decides what is spelled how.
        """
        random = np.random.default_rng([self._seed, epoch, 1])
        offset = int(random.integers(STRETCH))
        spellings: dict[tuple[int, str], Spelling | None] = {}
        out = ids.cpu().numpy().copy()
        for start, word in self._places:
            key = (start + offset) // STRETCH, word.lower()
            if key not in spellings:
                spellings[key] = self._spelling(key[1], random)
            new = spellings[key]
            if new is not None:
                out[start : start + len(word)] = new[0] if word.isupper() else new[1]
        return torch.from_numpy(out).to(ids.device)

    def _spelling(self, name: str, random: np.random.Generator) -> Spelling | None:
        """Draw a spelling, in capitals and with one; None where the name stays."""
        if random.random() >= self._share:
            return None
        for _ in range(TRIES):
            first, last = (self.known[i] for i in random.integers(len(self.known), size=2))
            cut = int(random.integers(1, len(name)))
            new = first[:cut] + last[cut - len(name) :]
            both = new.upper(), new.capitalize()
            if all(len(each) == len(name) and self._has(each) for each in both):
                upper, capitalised = (self._vocabulary.encode(each) for each in both)
                return upper, capitalised
        return None

    def _has(self, word: str) -> bool:
        return self._vocabulary.count_unknown(word) == 0


def _misfit(names: int, words: int) -> str | None:
    if names > SHARE_AT_MOST * words:
        return (
            f"{names / words:.0%} of the text's different words are never written in lower case, "
            f"of a text with names at most {SHARE_AT_MOST:.0%}: they are no names"
        )
    return None


def _amid_a_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - 2) : start]
    return before.endswith(" ") and (before[0].islower() or before[0] in ",;")
