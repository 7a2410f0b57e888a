"""How long loop runs are: in time, short for first symbols, and not moved by one slow one."""

from math import inf

import pytest

from serving.engine.rows.pacing import FIRST_SYMBOLS, HURRY_SECONDS, LENGTHS, LONGEST_RUN, RunLength
from serving.engine.rows.rows import Rows
from serving.engine.sequences.sequence import Sequence
from serving.engine.sequences.snapshot import StateLayout
from tests.serving.engine.harness import Reader, request
from unroll.bundle.folder import Bundle

STEP = 0.001
IN_TIME = 10


def row(bundle: Bundle, prompt: int, new: int, done: int = 0, **others: object) -> Sequence:
    """Make a sequence that has read or written so many symbols."""
    layout = StateLayout(bundle.manifest.state, len(bundle.vocabulary))
    asked = request(bundle.vocabulary, "a" * prompt, new, **others)
    sequence = Sequence(asked, bundle.vocabulary, layout, Reader())
    sequence.done = done
    return sequence


def steps_of(length: RunLength, sequences: list[Sequence], *, is_awaited: bool = False) -> int:
    """Return how long the next run of these rows is."""
    rows = Rows(len(sequences))
    for slot, sequence in enumerate(sequences):
        rows.put([slot], [sequence])
    rows.arrange(list(range(len(sequences))))
    return length.steps(
        rows.left,
        rows.may_stop,
        rows.until_first(rows.left),
        known=rows.known(rows.left),
        is_awaited=is_awaited,
    )


def taught(*sizes: int) -> RunLength:
    """Make one that knows the time of a step at these sizes."""
    length = RunLength(STEP * (IN_TIME + 0.5))
    for size in sizes:
        for steps in (1, 4, 7, 7, 7):
            length.learn(size, steps, STEP * steps, 0.0)
    return length


def taught_pauses(seconds: float) -> RunLength:
    """Make one that knows steps of two rows, and what goes before and after a run."""
    length = RunLength(STEP * (LONGEST_RUN + 0.5))
    for _ in range(8):
        length.learn(2, 1, STEP, seconds)
        length.learn(2, 1, STEP, seconds, is_read=True)
    return length


def test_first_call_of_a_size_is_short(bundle: Bundle) -> None:
    writer = row(bundle, 0, 900, done=5)
    assert steps_of(RunLength(1.0), [writer]) == 1
    length = taught(2)
    assert steps_of(length, [writer] * 2) == IN_TIME
    assert steps_of(length, [writer]) == FIRST_SYMBOLS
    assert steps_of(length, [writer] * 4) == FIRST_SYMBOLS
    assert steps_of(length, [writer] * 16) == 1
    assert steps_of(length, [writer] * 256) == 1


def test_one_slow_call_shortens_no_other_and_lasting_slowness_does(bundle: Bundle) -> None:
    writer = row(bundle, 0, 900, done=5)
    length = taught(1)
    for _ in range(2):
        length.learn(1, IN_TIME, 900.0, 0.0)
        assert steps_of(length, [writer]) == IN_TIME
    for _ in range(3):
        length.learn(1, IN_TIME, STEP * IN_TIME * 2, 0.0)
    assert steps_of(length, [writer]) == IN_TIME // 2


def test_long_prompt_neither_lengthens_calls_nor_shortens_them(bundle: Bundle) -> None:
    writer, reader = row(bundle, 0, 900, done=5), row(bundle, 10_000, 9)
    length = taught(2)
    for done in range(0, 10_000 - IN_TIME, 7):
        reader.done = done
        assert steps_of(length, [writer, reader]) == IN_TIME
    reader.done = 10_000 - 3
    assert steps_of(length, [writer, reader]) == 3 + 1
    reader.done = 10_000 + 1
    assert steps_of(length, [writer, reader]) == IN_TIME


@pytest.mark.parametrize(("prompt", "new", "expected"), [(0, 1, 1), (3, 2, 4), (3, 90, 4)])
def test_call_ends_with_the_first_symbol_of_a_request(
    bundle: Bundle, prompt: int, new: int, expected: int
) -> None:
    writer = row(bundle, 0, 900, done=5)
    assert steps_of(taught(2), [writer, row(bundle, prompt, new)]) == expected


def test_calls_that_end_with_a_first_symbol_cost_a_small_part_of_the_time(bundle: Bundle) -> None:
    rows = [row(bundle, 0, 900, done=5), row(bundle, 0, 90)]
    pause, hurried, seconds = 9 * STEP, 0, 0.0
    length = taught(2)
    for _ in range(5):
        length.learn(2, 1, STEP, pause)
    for _ in range(4000):
        steps = steps_of(length, rows)
        assert steps in (1, FIRST_SYMBOLS)
        length.learn(2, steps, STEP * steps, pause)
        hurried, seconds = hurried + (steps == 1), seconds + STEP * steps + pause
    assert 0.04 * seconds < hurried * pause < 0.06 * seconds + HURRY_SECONDS


def test_text_that_goes_out_as_one_shortens_no_call(bundle: Bundle) -> None:
    writer, whole = row(bundle, 0, 900, done=5), row(bundle, 3, 90, chunk_seconds=inf)
    assert steps_of(taught(2), [writer, whole]) == IN_TIME


def test_prompt_whose_state_is_kept_is_read_to_its_end_and_no_further(bundle: Bundle) -> None:
    writer, reader = row(bundle, 0, 900, done=5), row(bundle, 40, 9, done=34)
    reader.keeps_prefixes = True
    assert steps_of(taught(2), [writer, reader]) == 6


def test_text_that_is_scored_shortens_no_call(bundle: Bundle) -> None:
    writer, scored = row(bundle, 0, 900, done=5), row(bundle, 90, 0, done=89)
    assert steps_of(taught(2), [writer, scored]) == IN_TIME


def test_call_is_no_longer_than_its_rows_nor_than_the_longest(bundle: Bundle) -> None:
    length = RunLength(1.0)
    for _ in range(5):
        length.learn(2, 1, 1e-6, 0.0)
    short = row(bundle, 0, 8, done=5)
    assert steps_of(length, [short, row(bundle, 0, 7, done=5)]) == 3
    assert steps_of(length, [short, row(bundle, 0, 900, done=5)]) == LONGEST_RUN


@pytest.mark.parametrize(("step", "steps"), [(0.0021, 5), (0.0052, 2), (0.0074, 1), (0.03, 1)])
def test_call_takes_the_number_of_steps_nearest_to_its_time(
    bundle: Bundle, step: float, steps: int
) -> None:
    length = RunLength(0.01)
    length.learn(1, 1, step, 0.0)
    assert steps_of(length, [row(bundle, 0, 900, done=5)]) == steps


def test_run_ends_with_its_rows_where_others_wait(bundle: Bundle) -> None:
    rows = [row(bundle, 0, 17, done=5), row(bundle, 0, 900, done=5)]
    assert steps_of(taught_pauses(STEP), rows, is_awaited=True) == 12
    assert steps_of(taught_pauses(STEP), rows) == LONGEST_RUN
    assert steps_of(taught_pauses(STEP), [rows[1]] * 2, is_awaited=True) == LONGEST_RUN


def test_run_is_shorter_the_sooner_texts_stop_and_longer_the_longer_pauses_are(
    bundle: Bundle,
) -> None:
    rows = [row(bundle, 0, 900, done=5, stop=("b",)) for _ in range(2)]

    def steps(pause: float, stops: int) -> int:
        length = taught_pauses(pause)
        length.learn_stops(1000, stops)
        assert steps_of(length, rows) == LONGEST_RUN
        return steps_of(length, rows, is_awaited=True)

    assert steps(STEP, 0) == LONGEST_RUN
    assert steps(STEP, 1) > steps(STEP, 10) > steps(STEP, 100) > steps(STEP, 900)
    assert steps(0.1 * STEP, 20) < steps(STEP, 20) < steps(10 * STEP, 20)


def test_run_gives_most_symbols_a_second(bundle: Bundle) -> None:
    """The mean over lengths of text by the chance of a stop, summed one by one."""
    chance, pause = 0.05, 3 * STEP
    length = taught_pauses(pause)
    length.learn_stops(1000, int(1000 * chance))
    rows = [row(bundle, 0, 900, done=5, stop=("b",)) for _ in range(2)]

    def rate(steps: int) -> float:
        useful = sum((1 - chance) ** made for made in range(steps))
        return useful / (steps * STEP + pause)

    best = max(LENGTHS, key=rate)
    assert 1 < best < LONGEST_RUN
    assert steps_of(length, rows, is_awaited=True) == best


def test_runs_that_only_read_are_paced_apart_and_end_where_symbols_are_drawn(
    bundle: Bundle,
) -> None:
    def steps(length: RunLength, prompt: int) -> int:
        return steps_of(length, [row(bundle, prompt, 9, chunk_seconds=inf) for _ in range(2)])

    length = taught(2)
    assert steps(length, 900) == 1  # nothing is known of such runs
    for _ in range(5):
        length.learn(2, 4, STEP, STEP, is_read=True)
    assert steps(length, 2 * (4 * IN_TIME + 2)) == 4 * IN_TIME + 2
    assert steps(length, 17) == 17
    assert steps(length, 3) == IN_TIME


def test_texts_that_are_scored_end_within_a_run_rather_than_make_many_short_ones(
    bundle: Bundle,
) -> None:
    rows = [row(bundle, symbols, 0) for symbols in (2, 40)]
    assert steps_of(taught_pauses(100 * STEP), rows) == 40
    assert steps_of(taught_pauses(STEP / 100), rows) == 2


def test_texts_of_about_one_length_that_are_scored_end_together(bundle: Bundle) -> None:
    length = taught_pauses(STEP / 100)
    rows = [row(bundle, symbols, 0) for symbols in (37, 40)]
    assert steps_of(length, rows) == 40
    rows = [row(bundle, symbols, 0) for symbols in (3 * 50 - 9, 3 * 50)]
    assert steps_of(length, rows) == 50  # the longest run has 64
