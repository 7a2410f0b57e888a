"""The parity ladder: does the compiled model say what torch says?

Each rung compares more than the one below; all must hold, from random non-zero states, on rows of
which no two are alike. Differences of floats are greatest absolute differences divided by the
greatest magnitude that torch gave (or 1, if that is less), so that they mean the same for a ReLU
network, whose state is unbounded, as for an LSTM, whose state is not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from export.proof.comparison import (
    FP32,
    Tolerance,
    close,
    equal,
    joined,
    relative,
    require_within,
    state_difference,
)
from export.proof.long_runs import LONG, long_rungs, uniform_columns
from export.proof.quality import Texts, judge
from export.proof.reference import Reference, torch_state
from serving.runtime.decoder import FREE, Automata, Decoder, LoopResult, LoopRun, State
from serving.runtime.inspector import Inspected, Inspector
from serving.runtime.onnx import Device, GraphFiles, open_graph_session, runtime_version
from training.model.model import CharRNN
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import (
    BATCH,
    DECODE,
    DECODE_CONSTRAINED,
    DECODE_FILTERED,
    DECODE_FULL,
    READ,
    STEP,
    ParityReport,
    Rung,
)

T, N = 29, 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the ladder is climbed on.

    Attributes:
        tokens: symbols to read, (T + 1, N).
        state: where to begin.
        uniform: (T, N).
    """

    tokens: NDArray[np.int64]
    state: State
    uniform: NDArray[np.float32]


def prove(
    bundle: Bundle,
    model: CharRNN,
    seed: int,
    *,
    reference: Reference | None = None,
    tolerance: Tolerance = FP32,
    texts: Texts | None = None,
    long: int = LONG,
) -> ParityReport:
    """Climb the ladder.

    Args:
        bundle: the compiled model.
        model: the torch model, in evaluation mode.
        seed: for the random states and symbols.
        reference: what the loop should say; the torch model by default.
        tolerance: how far the loop may be from that.
        texts: those on which the loop's loss is compared with the torch model's.
        long: symbols of the long runs.

    Returns:
        The report, every rung within its limit.

    Raises:
        ParityError: some rungs are not; all of them are named.
    """
    case, expected = _random_case(bundle, seed), reference or model
    with torch.inference_mode(), _one_thread():  # not all graphs are in memory at once
        rungs = list(_step_rungs(bundle, model, case))
        shown = _inspect(bundle, case)
        decoder = _that_reads(bundle)
        rungs += _decode_rungs(decoder, expected, case, tolerance)
        rungs += _inspect_rungs(shown, decoder, expected, case, tolerance)
        quality = [] if texts is None else [judge(decoder, model, texts)]
        del decoder
        decoder = Decoder(bundle, Device.CPU, only=(DECODE,))
        whole = decoder.run(_half_free(case), case.state)
        rungs += _invariance_rungs(decoder, whole, case, tolerance)
        rungs += long_rungs(decoder, expected, bundle.vocabulary, seed, long, tolerance)
        del decoder
        rungs += [*_other_rungs(bundle, whole, case), *quality]
    require_within(
        rungs,
        "the compiled model differs from torch",
        "If the training was unstable (huge or non-finite weights), train again with a lower rate",
    )
    return ParityReport(
        torch_version=torch.__version__, onnxruntime_version=runtime_version(), rungs=rungs
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread.

    On a busy machine, two that waited for each other at each of 10,000 small steps took 90 s; one
    took 0.8 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _random_case(bundle: Bundle, seed: int) -> Case:
    random = np.random.default_rng(seed)
    return Case(
        tokens=random.integers(0, len(bundle.vocabulary), (T + 1, N)),
        state={
            tensor.input: random.uniform(
                -1, 1, [N if size == BATCH else int(size) for size in tensor.shape]
            ).astype(np.float32)
            for tensor in bundle.manifest.state
        },
        uniform=uniform_columns(seed, T, N),
    )


def _that_reads(bundle: Bundle) -> Decoder:
    """Load the graphs of which one reads texts, and one tells alternatives."""
    reads = READ if READ in bundle.manifest.graphs else DECODE
    return Decoder(bundle, Device.CPU, only=(reads, DECODE_FULL))


def _step_rungs(bundle: Bundle, model: CharRNN, case: Case) -> Iterator[Rung]:
    """Compare step.onnx with torch on one block."""
    graph_session = open_graph_session(GraphFiles.of(bundle, STEP), Device.CPU, threads=1)
    tensors = bundle.manifest.state
    feeds = {"tokens": case.tokens[:-1], **case.state}
    logits, *last = graph_session.run(["logits", *(t.output for t in tensors)], feeds)
    expected, state = model(torch.from_numpy(case.tokens[:-1]), torch_state(case.state))
    named = dict(zip((t.input for t in tensors), last, strict=True))
    block = f"{T} symbols x {N} rows"
    yield close("step: logits", relative(logits, expected.numpy()), block)
    yield close("step: final state", state_difference(named, state), block)


def _decode_rungs(
    decoder: Decoder, model: Reference, case: Case, tolerance: Tolerance
) -> Iterator[Rung]:
    """Compare each step of the loop with its reference, from the state in which the loop is.

    So what the one rounds up and the other down does not grow with the steps.
    """
    state, log_probs, likeliest, states = case.state, [], [], []
    for t in range(T):
        run = LoopRun.plain(case.tokens[t], case.tokens[t + 1 : t + 2], case.uniform[t : t + 1])
        result = decoder.run(run, state)
        logits, after = model(torch.from_numpy(case.tokens[t : t + 1]), torch_state(state))
        expected = torch.log_softmax(logits[0], -1).numpy()  # (N, V)
        of_forced = np.take_along_axis(expected, case.tokens[t + 1, :, None], 1)[:, 0]
        log_probs.append(relative(result.log_probs[0], of_forced))
        states.append(state_difference(result.state, after))
        asking = replace(run, asking=np.arange(N), alternatives=expected.shape[1])
        for row, found in enumerate(decoder.run(asking, state).likeliest):
            every = np.empty_like(expected[row])
            every[found.ids[0]] = found.log_probs[0]
            likeliest.append(relative(every, expected[row]))
        state = result.state
    block = f"{T} symbols x {N} rows"
    yield close("decode: log-probabilities", float(np.max(log_probs)), block, tolerance)
    yield close("decode: final state", float(np.max(states)), block, tolerance)
    block = f"all symbols at {block}"
    yield close("decode: alternatives", float(np.max(likeliest)), block, tolerance)
    if decoder.has_read:
        given = LoopRun.plain(case.tokens[0], case.tokens[1:], case.uniform)
        in_loop = decoder.run(replace(given, asking=np.arange(N), alternatives=1), case.state)
        block = f"{T} symbols x {N} rows, all outputs"
        yield equal("read: loop", in_loop, decoder.run(given, case.state), block)


def _inspect(bundle: Bundle, case: Case) -> Inspected:
    """Let inspect.onnx read row 0."""
    state = {name: t[:, :1] for name, t in case.state.items()}
    return Inspector(bundle).read(case.tokens[:-1, 0], state, 0)


def _inspect_rungs(
    found: Inspected, decoder: Decoder, model: Reference, case: Case, tolerance: Tolerance
) -> Iterator[Rung]:
    """Compare what inspect.onnx shows of row 0 with the reference, and with the loop."""
    tokens, state = case.tokens[:, :1], {name: t[:, :1] for name, t in case.state.items()}
    before, differences = torch_state(state), []
    for t, token in enumerate(tokens[:-1]):
        _, expected = model(torch.from_numpy(token[None]), before)
        before = {name: torch.from_numpy(held[t, :, None]) for name, held in found.units.items()}
        differences += [
            relative(held.numpy(), expected[name].numpy()) for name, held in before.items()
        ]
    compared = f"all units at {T} symbols"
    yield close("inspect: units", float(np.max(differences)), compared, tolerance)
    run = LoopRun.plain(tokens[0], tokens[1:], case.uniform[:, :1])
    shown = LoopResult(
        tokens=tokens[1:],
        log_probs=np.take_along_axis(found.log_probs, tokens[1:], 1),
        state=found.state,
    )
    yield equal("inspect: loop", shown, decoder.run(run, state), f"{T} symbols, all outputs")


def _half_free(case: Case) -> LoopRun:
    """Return a run that reads first, and then writes."""
    forced = case.tokens[1:].copy()
    forced[T // 3 :] = FREE
    return LoopRun.plain(case.tokens[0], forced, case.uniform)


def _invariance_rungs(
    decoder: Decoder, whole: LoopResult, case: Case, tolerance: Tolerance
) -> Iterator[Rung]:
    """Compare the loop with itself: cut differently, and row by row."""
    forced = _half_free(case).forced
    for name, cut in (("chunks of 4", 4), ("one at a time", 1)):
        tokens, state, parts = case.tokens[0], case.state, []
        for t in range(0, T, cut):
            part = decoder.run(
                LoopRun.plain(tokens, forced[t : t + cut], case.uniform[t : t + cut]), state
            )
            tokens, state = part.tokens[-1], part.state
            parts.append(part)
        yield equal(f"decode: {name}", whole, joined(parts, axis=0), f"{T} symbols, all outputs")
    alone = []
    for row in range(N):
        only = slice(row, row + 1)
        state = {name: tensor[:, only] for name, tensor in case.state.items()}
        alone.append(
            decoder.run(
                LoopRun.plain(case.tokens[0, only], forced[:, only], case.uniform[:, only]),
                state,
            )
        )
    rung = equal("decode: row alone", whole, joined(alone, axis=1), f"{N} rows, all outputs")
    yield replace(rung, limit=tolerance.row)


def _other_rungs(bundle: Bundle, whole: LoopResult, case: Case) -> Iterator[Rung]:
    """Compare the loop with the graphs that can do more, one in memory after the other."""
    free = _half_free(case)
    keeps_all = replace(free, top_k=np.full(N, np.iinfo(np.int32).max, np.int64))
    for name, graph, run, what in (
        ("filters", DECODE_FILTERED, keeps_all, "filters that keep all"),
        (
            "full",
            DECODE_FULL,
            replace(keeps_all, asking=np.arange(N), alternatives=1),
            "filters that keep all, 1 likeliest",
        ),
        (
            "constrained",
            DECODE_CONSTRAINED,
            replace(free, automata=Automata.free(N, bundle.vocabulary.sampled_size)),
            "automata that allow all",
        ),
    ):
        result = Decoder(bundle, Device.CPU, only=(graph,)).run(run, case.state)
        yield equal(f"decode: {name}", whole, result, what)
