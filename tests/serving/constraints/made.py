"""Automata made in the test's own process."""

import numpy as np

from serving.constraints.automaton import Automaton, ending_with
from serving.constraints.construction import NONE, construct
from unroll.bundle.vocabulary import Vocabulary


def automaton(pattern: str, vocabulary: Vocabulary) -> Automaton:
    """Return the automaton of a pattern, as the compiling process makes it.

    Raises:
        PatternError: see construct.
    """
    symbols = vocabulary.symbols[: vocabulary.sampled_size]
    end = "\n" if vocabulary.form.unit == "record" else ""
    made = construct(pattern, symbols, end)
    rows = np.array([[*row, NONE] for row in made.rows], np.int16)  # class -1 is the last column
    whole = Automaton.of(pattern, rows[:, made.class_of], np.array(made.accepting))
    return ending_with(whole, symbols.index(end)) if end else whole
