"""What was cut from a worker's lines stays as it was, whatever is done to them later."""

import numpy as np

from serving.engine.rows.lines import WIDTH, Lines
from serving.runtime.host import Written

SLOTS, STEPS = 3, 5
EVERY = slice(None)


def written(seed: int) -> Written:
    draw = np.random.default_rng(seed)
    return Written(
        tokens=draw.integers(0, 99, (STEPS, SLOTS)),
        log_probs=-draw.random((STEPS, SLOTS), np.float32),
    )


def test_what_was_cut_stays_when_lines_shift_and_are_written_again() -> None:
    lines, old = Lines(SLOTS), written(1)
    begin = WIDTH - 2 * STEPS
    columns = slice(begin, begin + STEPS)
    states = old.tokens + 1
    lines.write(EVERY, columns, old, states)
    cut = lines.cut(np.array([0, 2]), np.array([begin, begin + 1]), np.array([begin + STEPS] * 2))
    lines.shift(STEPS)
    lines.write(EVERY, columns, written(2), states + 1)
    for (tokens, log_probs, own), slot, first in zip(cut, (0, 2), (0, 1), strict=True):
        np.testing.assert_array_equal(tokens, old.tokens[first:, slot])
        np.testing.assert_array_equal(log_probs, old.log_probs[first:, slot])
        np.testing.assert_array_equal(own, states[first:, slot])


def test_lines_keep_what_was_written_after_the_columns_that_they_forget() -> None:
    lines, old = Lines(SLOTS), written(1)
    lines.write(EVERY, slice(2 * STEPS, 3 * STEPS), old, None)
    lines.shift(STEPS)
    ((tokens, log_probs, own),) = lines.cut(np.array([1]), np.array([STEPS]), np.array([2 * STEPS]))
    np.testing.assert_array_equal(tokens, old.tokens[:, 1])
    np.testing.assert_array_equal(log_probs, old.log_probs[:, 1])
    assert not len(own)
