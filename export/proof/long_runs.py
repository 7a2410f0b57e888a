"""Long runs of the loop, as a server makes them: every symbol is what the reference would draw."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from export.proof.comparison import EQUAL, Tolerance, close, joined
from export.proof.reference import Reference, Run, verify_run
from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.sampling import uniforms
from unroll.bundle.manifest import Rung
from unroll.bundle.vocabulary import Vocabulary

LONG = 10_000
RECORD = 100  # symbols of a record at most


def uniform_columns(seed: int, steps: int, rows: int) -> NDArray[np.float32]:
    """Return the random numbers of rows with one seed after the other, (steps, rows)."""
    return np.stack([uniforms(seed + row, 0, steps) for row in range(rows)], axis=1)


def long_rungs(
    decoder: Decoder,
    model: Reference,
    vocabulary: Vocabulary,
    seed: int,
    long: int,
    tolerance: Tolerance,
) -> Iterator[Rung]:
    """Let the loop write, greedily in row 0 and with seeds in the others; check every symbol.

    Of records there are more rows, and each is checked to the end of its line: what follows it, no
    server writes.
    """
    is_of_records = vocabulary.form.unit == "record"
    steps, rows = (min(long, RECORD), max(2, long // 25)) if is_of_records else (long, 2)
    run = _write(decoder, vocabulary, uniform_columns(seed, steps, rows), tolerance.steps)
    verdict = verify_run(model, run, tolerance.tie, vocabulary)
    lengths = run.is_text.sum(0)  # (rows,)
    block = f"{long} symbols x 2 rows"
    if is_of_records:
        block = f"{lengths.sum()} symbols of {rows} records"
    yield close("long: log-probabilities", verdict.drift, block, tolerance)
    yield Rung(
        name="long: states",
        difference=verdict.apart,
        limit=tolerance.typical,
        compared=f"median after every {run.steps} symbols",
    )
    for name, of in (("greedy", slice(1)), ("seeded", slice(1, None))):
        ties = sum(verdict.ties[of])
        yield Rung(
            name=f"long: {name} symbols",
            difference=float(sum(verdict.mismatches[of])),
            limit=EQUAL,
            compared=f"{lengths[of].sum()} symbols" + (f", {ties} ties" if ties else ""),
        )


def _write(
    decoder: Decoder, vocabulary: Vocabulary, uniform: NDArray[np.float32], steps: int
) -> Run:
    """Write with random numbers, (T, N), by so many steps at a time; row 0 does without them."""
    rows = uniform.shape[1]
    uniform[:, 0] = 0
    temperature = [0.0, *[1.0] * (rows - 1)]
    tokens, state = np.full(rows, vocabulary.start_id), decoder.zero_state(rows)
    parts, states = [], []
    for t in range(0, len(uniform), steps):
        numbers = uniform[t : t + steps]
        forced = np.full(numbers.shape, FREE)
        loop_run = LoopRun.plain(tokens, forced, numbers, temperature=temperature)
        states.append(state)
        result = decoder.run(loop_run, state)
        tokens, state = result.tokens[-1], result.state
        parts.append(result)
    written = joined(parts, axis=0)
    return Run(
        start=vocabulary.start_id,
        tokens=written.tokens,
        log_probs=written.log_probs,
        uniform=uniform,
        steps=steps,
        states=states,
        end=vocabulary.symbols.find("\n") if vocabulary.form.unit == "record" else None,
    )
