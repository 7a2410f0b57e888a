"""Automata that say which symbols may come, in the loop's graph.

    in   automaton  (batch) int64               the state of each row
         bias       (states, sampled size) float  added to the logits before temperature; -inf bans
         next       (states x sampled size) int64  the state after a state and a symbol
    out  automata   (time, batch) int64         the state of each row after each step

A symbol that is forced is none that the automaton judges: it stays in its state. What a row's
log-probabilities tell is the model's, without bias.
"""

from dataclasses import dataclass

import numpy as np

from export.graph.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Automata:
    """The tables that all steps look up.

    Attributes:
        bias: (S, V).
        next: (S V).
        is_free: whether a symbol is drawn at each step, (T, N).
    """

    bias: str
    next: str
    is_free: str


def declare_automata(g: Graph, sampled_size: int) -> tuple[Automata, str]:
    """Declare the tables and the rows' states as inputs of the graph; also return the states."""
    state = g.input("automaton", np.int64, ["batch"])
    automata = Automata(
        bias=g.input("bias", np.float32, ["states", sampled_size]),
        next=g.input("next", np.int64, ["transitions"]),
        is_free=g.op("Less", "forced", g.constant("zero_id", 0, np.int64)),
    )
    return automata, state


def add_bias(g: Graph, logits: str, automata: Automata, state: str) -> str:
    """Add to the logits, (N, V), what the rows' states say."""
    return g.op("Add", logits, g.op("Gather", automata.bias, state, axis=0))


def advance(
    g: Graph, automata: Automata, state: str, ids: str, is_free: str, sampled_size: int
) -> str:
    """Return the rows' states after this step, (N,).

    Args:
        g: where the nodes go.
        automata: the tables.
        state: before it, (N,).
        ids: what was drawn, (N,); below the sampled size.
        is_free: whether that comes, (N,).
        sampled_size: how many symbols may be drawn.
    """
    row = g.op("Mul", state, g.constant("sampled", sampled_size, np.int64))
    to = g.op("Gather", automata.next, g.op("Add", row, ids), axis=0)
    return g.op("Where", is_free, to, state)
