"""Whether a bundle's graphs and weights can do what its manifest says, found out before serving."""

from dataclasses import replace

import numpy as np

from serving.runtime.decoder import FREE, Automata, Decoder, LoopRun
from serving.runtime.inspector import Inspector
from serving.runtime.onnx import Device, open_bundle_graphs, open_graph_session
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import INSPECT, STEP, WEIGHTS
from unroll.errors import BundleError

STEPS = 2  # the second one reads what the first one wrote of the state
ROWS = 64
WHOLE_AT_MOST = 1024  # symbols; of more, the others are only read: 5,000 took 9 s
LARGEST_UNIFORM = np.float32(1 - 2**-24)


def probe(bundle: Bundle, decoder: Decoder, inspector: Inspector | None = None) -> None:
    """Open the graph that nobody serves from, and let the others read and write every symbol.

    Args:
        bundle: whose graphs and weights.
        decoder: has opened its decode graphs.
        inspector: has opened its inspect graph; None if it has none.

    Raises:
        BundleError: a graph cannot be loaded, reads or writes another vocabulary than the
            manifest's, or gives what is no number.
    """
    open_bundle_graphs(bundle, (STEP,), lambda files: open_graph_session(files, Device.CPU, 1))
    _check_weights(bundle)
    V = len(bundle.vocabulary)
    for tokens in _batches(V):
        for top_k in (0, V):  # without the filters' graph, and with it
            _check_run(bundle, decoder, tokens, top_k)
        if decoder.is_full:
            _check_run(bundle, decoder, tokens, 0, automata=decoder.free(len(tokens)))
            _check_run(bundle, decoder, tokens, V, alternatives=min(V, WHOLE_AT_MOST))
    if V > WHOLE_AT_MOST:
        _check_reading(bundle, decoder)
    if inspector is not None:
        _check_inspection(bundle, decoder, inspector)


def _check_weights(bundle: Bundle) -> None:
    """Look at every number where all of the file are float32; others show in what they give."""
    if bundle.manifest.model.precision != "fp32":
        return
    weights = np.frombuffer(bundle.read(WEIGHTS), "<f4")
    if not np.isfinite(weights).all():
        place = int(np.flatnonzero(~np.isfinite(weights))[0])
        raise BundleError(
            f"{bundle.folder / WEIGHTS}: the number at byte {4 * place} is {weights[place]}; train "
            "to an end that is finite, and export that checkpoint"
        )


def _batches(V: int) -> list[np.ndarray]:
    """Return all token ids in batches; of a large vocabulary, the first and the last."""
    batches = [np.arange(first, min(first + ROWS, V)) for first in range(0, V, ROWS)]
    return batches if V <= WHOLE_AT_MOST else [batches[0], batches[-1]]


def _check_reading(bundle: Bundle, decoder: Decoder) -> None:
    """Read every symbol of a large vocabulary once."""
    V, state = len(bundle.vocabulary), decoder.zero_state(ROWS)
    symbols = np.resize(np.arange(V), (-(-V // ROWS) + 1, ROWS))
    for first in range(0, len(symbols) - 1, STEPS):
        some = symbols[first : first + STEPS + 1]
        run = LoopRun.plain(some[0], some[1:], np.zeros(some[1:].shape, np.float32))
        result = decoder.run(replace(run, is_scored=False), state)
        state = result.state
    if not all(np.isfinite(tensor).all() for tensor in state.values()):
        raise BundleError(
            f"{bundle.folder}: some of its {V} symbols give states that are not finite; the "
            "weights are damaged or the training exploded; export another checkpoint"
        )


def _check_inspection(bundle: Bundle, decoder: Decoder, inspector: Inspector) -> None:
    V = len(bundle.vocabulary)
    try:
        tokens = np.concatenate(_batches(V))
        found = inspector.read(tokens, decoder.zero_state(1), min(V, WHOLE_AT_MOST))
    except Exception as error:  # as in _check_run
        raise BundleError(
            f"{bundle.folder}: {INSPECT} cannot read its {V} symbols: {error}; export the "
            "checkpoint again"
        ) from error
    is_whole = found.log_probs.shape == (len(tokens), V)
    if not (is_whole and all(np.isfinite(each).all() for each in found.units.values())):
        raise BundleError(
            f"{bundle.folder}: {INSPECT} does not show its {V} symbols; export the checkpoint again"
        )


def _check_run(
    bundle: Bundle,
    decoder: Decoder,
    tokens: np.ndarray,
    top_k: int,
    alternatives: int = 0,
    automata: Automata | None = None,
) -> None:
    N, V = len(tokens), len(bundle.vocabulary)
    run = LoopRun(
        tokens=tokens,
        forced=np.full((STEPS, N), FREE),
        uniform=np.full((STEPS, N), LARGEST_UNIFORM),
        steps=np.full(N, STEPS),
        temperature=np.ones(N, np.float32),
        top_k=np.full(N, top_k),
        top_p=np.ones(N, np.float32),
        min_p=np.zeros(N, np.float32),
        asking=np.arange(N if alternatives else 0),
        alternatives=alternatives,
        automata=automata,
    )
    try:
        result = decoder.run(run, decoder.zero_state(N))
    except Exception as error:  # ONNX Runtime's classes share no base of their own
        raise BundleError(
            f"{bundle.folder}: its graphs cannot read its {V} symbols: {error}; export the "
            "checkpoint again"
        ) from error
    if result.tokens.min() < 0 or result.tokens.max() >= V:
        raise BundleError(
            f"{bundle.folder}: its graphs write token ids up to {result.tokens.max()}, its "
            f"vocabulary has {V} symbols; export the checkpoint again"
        )
    every = (found.log_probs for found in result.likeliest)
    numbers = (result.log_probs, *every, *result.state.values())
    if not all(np.isfinite(each).all() for each in numbers):
        raise BundleError(
            f"{bundle.folder}: its graphs give numbers that are not finite; the weights are "
            "damaged or the training exploded; export another checkpoint"
        )
