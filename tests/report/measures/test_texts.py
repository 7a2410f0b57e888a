"""Measures of written texts against counts by hand and the slow way."""

import random

import pytest

from report.measures.texts import (
    Share,
    Source,
    closed_marks,
    known_words,
    measure_texts,
    repeated_ngrams,
    share,
    words,
)


def longest_copy_the_slow_way(source: str, texts: list[str]) -> int:
    runs = {source[i:j] for i in range(len(source)) for j in range(i, len(source) + 1)}
    return max(
        j - i
        for text in texts
        for i in range(len(text) + 1)
        for j in range(i, len(text) + 1)
        if text[i:j] in runs
    )


@pytest.mark.parametrize("seed", range(30))
def test_longest_copy_is_the_one_that_is_found_the_slow_way(seed: int) -> None:
    rng = random.Random(seed)

    def text(at_most: int) -> str:
        return "".join(rng.choice("ab£\U0001f600") for _ in range(rng.randint(1, at_most)))

    source, texts = text(60), [text(30) for _ in range(3)]
    found = Source(source).longest_copy(texts)
    assert len(found) == longest_copy_the_slow_way(source, texts)
    assert found in source
    assert any(found in each for each in texts)


def test_longest_copy_in_a_long_text_is_the_planted_one() -> None:
    rng = random.Random(1)
    source = "".join(rng.choice("abcdefgh ") for _ in range(200_000))
    planted = source[123_456:123_500]
    texts = ["#" * 300, "#" * 100 + planted + "#" * 100]
    assert Source(source).longest_copy(texts) == planted


def test_nothing_in_common_is_an_empty_copy() -> None:
    assert Source("abc").longest_copy(["xyz", ""]) == ""


def test_words_have_apostrophes_but_no_digits() -> None:
    assert words("Don’t say 'Boo!' 2nd o'clock, Mrs. Quill's") == [
        "don’t", "say", "boo", "nd", "o'clock", "mrs", "quill's",
    ]  # fmt: skip


def test_words_that_exist_are_counted_without_the_first_and_the_last() -> None:
    assert known_words("xx the fog zorp came yy", {"the", "fog", "came", "xx"}) == (3, 4)


def test_a_run_of_four_words_is_repeated_from_its_second_time_on() -> None:
    text = "a b c d. A b c d a b c d"
    # abcd bcda cdab dabc abcd bcda cdab dabc abcd: 9 runs, 4 of them new
    assert repeated_ngrams(text) == (5, 9)
    assert repeated_ngrams("too few words") == (0, 0)


@pytest.mark.parametrize(
    ("text", "closed", "opened"),
    [
        ('"one" and "two', 1, 2),
        ("(a [b] c", 1, 2),
        ("“left open (too ”", 0, 2),
        ('"open for good\n\n"shut"\n\n"not counted', 1, 2),
        ("none", 0, 0),
    ],
)
def test_marks_are_closed_in_their_paragraph(text: str, closed: int, opened: int) -> None:
    assert closed_marks(text) == (closed, opened)


def test_a_share_is_of_all_texts_together_with_its_error_over_them() -> None:
    found = share([(1, 2), (3, 6)])
    assert found is not None
    assert (found.value, found.error) == (0.5, 0.0)
    spread = share([(0, 4), (4, 4)])
    # ratio 1/2; residuals -2 and 2; variance of their sum 2 * (4 + 4) = 16; 4 / 8
    assert spread == Share(value=0.5, error=0.5)
    assert share([(0, 0)]) is None


def test_measures_of_texts_are_those_of_each_kind() -> None:
    text = 'zz "the fog" came down zz'
    measures = measure_texts([text, text], Source("and the fog came in"), {"the", "fog", "came"})
    assert measures.words == Share(value=0.75, error=0.0)
    assert measures.closed == Share(value=1.0, error=0.0)
    assert measures.copy == "the fog"
