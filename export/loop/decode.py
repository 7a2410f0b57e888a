"""The decode graphs: prefill, decode and score as one compiled loop.

    in   tokens   (batch) int64         the last symbol, not yet consumed
         forced   (time, batch) int64   >= 0: this symbol comes next; -1: sample
         uniform  (time, batch) float   in [0, 1), multiples of 2^-24
         steps    (batch) int64         after so many steps, a row keeps its state as it is
         temperature (batch) float
         h_0 (and c_0)  (layers, batch, hidden) float
    out  tokens_out (time, batch) int64
         log_probs (time, batch) float  of each symbol under the model, before temperature
         h_n (and c_n)

decode-filtered.onnx also takes top_k (batch) int64, 0 keeps all, and top_p, min_p (batch) float.
decode-constrained.onnx follows automata, see automata.py. decode-full.onnx takes all of these and

    in   alternative_rows (asking) int64   the rows that want to know the likeliest symbols
         alternative_count (1) int64       how many of them, 0 to V
    out  alternative_ids (time, asking, count) int64        the likeliest first
         alternative_log_probs (time, asking, count) float  of each, as log_probs

With values that keep all symbols, no bias and no row that asks, each gives the same bits as
decode.onnx, so runs need not pay for what no row of theirs asks for.

The loop is ONNX's Scan over time: it hands each step its slices, where a Loop would have to gather
them (1.06 times slower at batch 1).
"""

from dataclasses import dataclass

import numpy as np
import onnx

from export.drawing.alternatives import find_alternatives
from export.drawing.automata import Automata, add_bias, advance, declare_automata
from export.drawing.filtered_rows import FilteredRows, keep_likeliest_in, prepare_filtered_rows
from export.drawing.sampler import (
    WHOLE_AT_MOST,
    Sampler,
    draw,
    prepare,
    probabilities,
    that_may_be_drawn,
)
from export.graph.arithmetic import Arithmetic
from export.graph.cells import RecurrentState, recurrent_step
from export.graph.graph import Graph, Shape, WeightFile
from export.graph.weights import ModelWeights
from export.loop.nodes import (
    cast,
    enter,
    give_state,
    is_alive_at,
    keep_alive,
    leave,
    log_probs_of,
    take_state,
)
from unroll.bundle.manifest import DECODE, DECODE_CONSTRAINED, DECODE_FULL


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """What one step takes besides symbol and state.

    Attributes:
        uniform: float, (N, 1); see sampler.prepare.
        forced: int64, (N,).
        is_alive: whether the row's state goes on, (N, 1).
        automaton: state of the row's automaton, (N,); empty without automata, as the next.
        is_free: whether the symbol is drawn, (N,).
    """

    uniform: str
    forced: str
    is_alive: str
    automaton: str = ""
    is_free: str = ""


@dataclass(frozen=True, kw_only=True)
class StepOutputs:
    """What one step gives.

    Attributes:
        logits: float, (N, V).
        chosen: the symbol that comes next, (N,).
        state: after the step; that of rows which are not alive is as before.
        automaton: its state after the step, (N,); empty without automata.
    """

    logits: str
    chosen: str
    state: RecurrentState
    automaton: str = ""


def choose_next(
    g: Graph,
    model: ModelWeights,
    arithmetic: Arithmetic,
    token: str,
    state: RecurrentState,
    *,
    inputs: StepInputs,
    sampler: Sampler,
    rows: FilteredRows | None,
    automata: Automata | None = None,
) -> StepOutputs:
    """Append one step: consume a symbol, choose the next.

    Args:
        g: where the nodes go.
        model: the weights.
        arithmetic: how products are made.
        token: the symbol to consume, (N,).
        state: before the step.
        inputs: what else is of this step alone.
        sampler: what is the same in each step.
        rows: those that have a filter; None without filters.
        automata: what bans symbols or favours them; None without.
    """
    terms, new = recurrent_step(g, arithmetic, model, token, state)
    logits = arithmetic.affine(g, "decoder", terms, model.decoder_bias)
    logits = cast(g, logits, arithmetic.dtype, np.float32)
    size = model.sampled_size
    drawable = that_may_be_drawn(g, logits, model)
    if automata is not None:
        drawable = add_bias(g, drawable, automata, inputs.automaton)
    p = probabilities(g, drawable, sampler, size)
    if rows is not None:
        p = keep_likeliest_in(g, p, rows, size)
    ids = draw(g, p, inputs.uniform, size)
    automaton = ""
    if automata is not None:
        automaton = advance(g, automata, inputs.automaton, ids, inputs.is_free, size)
    return StepOutputs(
        logits=logits,
        chosen=g.op("Max", ids, inputs.forced),  # where a symbol is forced, 0 is drawn
        state=keep_alive(g, inputs.is_alive, new, state),
        automaton=automaton,
    )


def compile_decode(
    model: ModelWeights, arithmetic: Arithmetic, file: WeightFile, name: str
) -> onnx.ModelProto:
    """Write a decode graph of a model: the one that a bundle calls so."""
    g = Graph("decode", file)
    token = g.input("tokens", np.int64, ["batch"])
    forced = g.input("forced", np.int64, ["time", "batch"])
    g.input("uniform", np.float32, ["time", "batch"])
    is_alive = is_alive_at(g, g.input("steps", np.int64, ["batch"]))
    sampler, uniform = prepare(g, model.sampled_size, filtered=False)
    has_filters = name not in {DECODE, DECODE_CONSTRAINED}
    rows = prepare_filtered_rows(g, model.sampled_size) if has_filters else None
    shape = model.state_shape
    inputs = {name: g.input(f"{name}_0", np.float32, shape) for name in model.state_names}
    state = enter(g, model, arithmetic, inputs, axis=0)
    before, slices, automata = [token, *state.names], [uniform, forced, is_alive], None
    if name in {DECODE_CONSTRAINED, DECODE_FULL}:
        automata, automaton = declare_automata(g, model.sampled_size)
        before, slices = [*before, automaton], [*slices, automata.is_free]
    collected = 2 if automata is None else 3
    # The numbers of all symbols are many where these are: better not kept from step to step.
    is_told_at_once = name != DECODE_FULL and model.vocabulary_size > WHOLE_AT_MOST
    outputs = g.ops(
        "Scan",
        *before,
        *slices,
        count=len(before) + collected,
        body=_body(g, model, arithmetic, state, sampler, rows, automata, is_told_at_once),
        num_scan_inputs=len(slices),
    )
    after, (tokens, told, *automata_out) = outputs[1 : 1 + len(state.names)], outputs[-collected:]
    g.output(tokens, "tokens_out", np.int64, ["time", "batch"])
    all_log_probs = "" if is_told_at_once else g.op("LogSoftmax", told, axis=2)
    log_probs = told if is_told_at_once else log_probs_of(g, all_log_probs, tokens, axis=2)
    g.output(log_probs, "log_probs", np.float32, ["time", "batch"])
    if name == DECODE_FULL:
        found = find_alternatives(g, told, all_log_probs)
        asked: Shape = ["time", "asking", "count"]
        g.output(found.ids, "alternative_ids", np.int64, asked)
        g.output(found.log_probs, "alternative_log_probs", np.float32, asked)
    if automata is not None:
        g.output(automata_out[0], "automata", np.int64, ["time", "batch"])
    for tensor, layers in state.renamed(after).tensors.items():
        g.output(leave(g, arithmetic, layers, axis=0), f"{tensor}_n", np.float32, shape)
    return g.model()


def _body(
    outer: Graph,
    model: ModelWeights,
    arithmetic: Arithmetic,
    state: RecurrentState,
    sampler: Sampler,
    rows: FilteredRows | None,
    automata: Automata | None,
    is_told_at_once: bool,
) -> onnx.GraphProto:
    """One step: what is carried and this step's slices in, what is carried and collected out.

    What is told of the step is the log-probability of what came, or else the logits of all.
    """
    g = outer.body("step")
    token = g.input("token", np.int64, ["batch"])
    before = take_state(g, model, arithmetic, state)
    has = automata is not None
    step = choose_next(
        g,
        model,
        arithmetic,
        token,
        before,
        inputs=_declare_inputs(g, has_automata=has),
        sampler=sampler,
        rows=rows,
        automata=automata,
    )
    g.output(step.chosen, "chosen", np.int64, ["batch"])
    give_state(g, model, arithmetic, step.state)
    if has:
        g.output(step.automaton, "new_automaton", np.int64, ["batch"])
    g.output(step.chosen, "token_t", np.int64, ["batch"])
    if is_told_at_once:
        log_probs = log_probs_of(g, g.op("LogSoftmax", step.logits, axis=1), step.chosen, axis=1)
        g.output(log_probs, "log_prob_t", np.float32, ["batch"])
    else:
        g.output(step.logits, "logits_t", np.float32, ["batch", model.vocabulary_size])
    if has:
        g.output(step.automaton, "automaton_t", np.int64, ["batch"])
    return g.proto()


def _declare_inputs(g: Graph, *, has_automata: bool) -> StepInputs:
    automaton = g.input("automaton_before", np.int64, ["batch"]) if has_automata else ""
    return StepInputs(
        uniform=g.input("uniform_t", np.float32, ["batch", 1]),
        forced=g.input("forced_t", np.int64, ["batch"]),
        is_alive=g.input("is_alive_t", np.bool_, ["batch", 1]),
        automaton=automaton,
        is_free=g.input("is_free_t", np.bool_, ["batch"]) if has_automata else "",
    )
